#!/usr/bin/env python3
"""Does the reference itself meet the bf16 rule when it is run again with other products, threads or attention?

    reference_variants.py --goldens FOLDER --tools FOLDER_OF_THE_GENERATOR --spec SPEC [--variant eager|sdpa|...]

Runs the reference's own bf16 model again (transformers, as the golden files were made; the generator's requirements.txt) with another
attention body (eager also rounds its scores, so more than an order changes), other matrix products or other threads, and judges it as golden_test judges us: last logits within 1.5 times the recorded
bf16's distance from the recorded fp32, and the recorded fp32 token wherever its margin exceeds twice the recorded bf16 error."""
import argparse
import json
import pathlib
import sys

RATIO = 1.5
VARIANTS = {  # attention body, matrix products of oneDNN, threads
    "sdpa": ("sdpa", True, 1),
    "eager": ("eager", True, 1),
    "sdpa, no oneDNN": ("sdpa", False, 1),
    "eager, no oneDNN": ("eager", False, 1),
    "sdpa, 2 threads": ("sdpa", True, 2),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goldens", type=pathlib.Path, required=True)
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--spec", type=pathlib.Path, required=True)
    parser.add_argument("--variant", choices=VARIANTS, action="append")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.tools))
    import torch
    from safetensors.torch import load_file
    from transformers import AutoProcessor

    import make_cases

    spec = json.loads(arguments.spec.read_text())
    for variant in arguments.variant or VARIANTS:
        attention, onednn, threads = VARIANTS[variant]
        torch.set_num_threads(threads)
        torch.backends.mkldnn.enabled = onednn
        cases, misses = {"dense": 0, "moe": 0}, {"dense": [], "moe": []}
        for checkpoint in spec["checkpoints"]:
            folder = arguments.goldens / "checkpoints" / checkpoint["name"]
            model = make_cases.load_model(folder, torch.bfloat16, attention)
            processor = AutoProcessor.from_pretrained(folder)
            for case in make_cases.cases_for(spec, checkpoint):
                kept = arguments.goldens / "cases" / checkpoint["name"] / case["name"]
                record = json.loads((kept / "case.json").read_text())
                tensors = load_file(str(kept / "case.safetensors"))
                with torch.no_grad():
                    feats, _, _ = make_cases.prepare(case, processor, arguments.goldens / "media")
                    last = make_cases.forward(model, feats)[0][-1].double()
                    ids = record["greedy_fp32"]["ids"]
                    steps = make_cases.forward(model, make_cases.extend(feats, ids[:-1]))[0][record["tokens"] - 1:]
                fp32 = tensors["logits.last"].double()
                distance = lambda x: float((x - fp32).pow(2).mean().sqrt())
                ratio = distance(last) / distance(tensors["logits_bf16.last"].double())
                clear = [m > 2 * e for m, e in zip(record["greedy_fp32"]["margins"], record["bf16_on_fp32_continuation"]["max_abs_error"])]
                wrong = sum(c and int(s.argmax()) != i for c, s, i in zip(clear, steps, ids))
                cases[checkpoint["kind"]] += 1
                if ratio > RATIO or wrong:
                    misses[checkpoint["kind"]].append(f"{checkpoint['name']}/{case['name']}: last logits {ratio:.2f} times, {wrong} clear tokens differ")
        for kind in cases:
            print(f"{variant}: {kind}: {len(misses[kind])} of {cases[kind]} cases miss the rule", flush=True)
            for miss in misses[kind]:
                print(f"    {miss}", flush=True)


if __name__ == "__main__":
    main()
