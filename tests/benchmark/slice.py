#!/usr/bin/env python3
"""How much of what its products promise a whole model keeps: time per layer of a slice with the real shapes of the 30B-A3B.

    slice.py PROGRAM FOLDER [--chunk 2048] [--reps 5] [--threads 1]

Makes slices of 2 and 4 layers in FOLDER (about 11 GB) if they are not there. The time of a layer is (t(4 layers) - t(2 layers)) / 2, medians
of repetitions, the two slices in turn, on the CPU clock of one thread or the wall clock of several. Prefill is held against the same products in `bench kernels` of the same minute, decode against
the bandwidth of reading memory in order."""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HIDDEN, HEADS, KV_HEADS, DIM, EXPERTS, CHOSEN, INNER = 2048, 32, 4, 128, 128, 8, 768
HERE = pathlib.Path(__file__).resolve().parent
LAYERS = (2, 4)


def bench(program, *words):
    result = subprocess.run([program, "bench", *map(str, words)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"slice.py: {program} bench {' '.join(map(str, words))}: exit code {result.returncode}: {result.stderr}")
    return result.stdout


def kernels(program, threads):
    rows = json.loads(bench(program, "kernels", "--threads", threads, "--json"))
    for row in rows:
        row["gflops"], row["gbytes"] = 1e-9 * row["flops"] / row["seconds"], 1e-9 * row["bytes"] / row["seconds"]
    return rows


def rate(rows, op, shape, m):
    for row in rows:
        if row["op"] == op and row["shape"].startswith(shape) and row["m"] == m:
            return row
    sys.exit(f"slice.py: bench kernels has no row {op} {shape} M={m}")


def seconds_per_layer(program, folder, test, tokens, chunk, reps, each, threads):
    times = {layers: [] for layers in LAYERS}
    for _ in range(reps):
        for layers in LAYERS:
            words = ["--model", folder / f"30B-A3B-{layers}", "--threads", threads, "--test", test, "--tokens", tokens, "--reps", each, "--chunk", chunk, "--json"]
            times[layers] += json.loads(bench(program, *words).splitlines()[-1])["cpu" if threads == 1 else "wall"]
    middle = {layers: statistics.median(values) for layers, values in times.items()}
    print(f"{test}: t(2 layers) {middle[2]:.4f} s, t(4 layers) {middle[4]:.4f} s for {tokens} tokens")
    return (middle[4] - middle[2]) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--chunk", type=int, default=2048)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for layers in LAYERS:
        out = arguments.folder / f"30B-A3B-{layers}"
        if not (out / "model.safetensors.index.json").exists():
            made = subprocess.run([sys.executable, HERE / "make_slice.py", "--model", "30B-A3B", "--layers", str(layers), "--out", out])
            if made.returncode != 0:
                sys.exit(made.returncode)  # it has said why

    rows = kernels(arguments.program, arguments.threads)
    tokens = arguments.chunk
    # Giga multiply-adds counted as two, of one layer over one chunk that begins at position 0.
    attention_products = 2e-9 * tokens * HIDDEN * DIM * (2 * HEADS + 2 * KV_HEADS)
    experts = 2e-9 * tokens * CHOSEN * 3 * HIDDEN * INNER
    attention = 4e-9 * HEADS * DIM * tokens * (tokens + 1) / 2
    per_expert = 64 if tokens * CHOSEN // EXPERTS < 256 else 512
    gate_up, down = rate(rows, "gate_up", "30B bf16", per_expert), rate(rows, "down", "30B bf16", per_expert)
    prefill = rate(rows, "prefill", "235B/4", 96)
    predicted = (attention_products / rate(rows, "gate_up", "30B bf16", 512)["gflops"] + experts * 2 / 3 / gate_up["gflops"] + experts / 3 / down["gflops"]
                 + attention / prefill["gflops"])
    measured = seconds_per_layer(arguments.program, arguments.folder, "pp", tokens, tokens, arguments.reps, 1, arguments.threads)
    print(f"prefill of {tokens} tokens: {1e3 * measured:.1f} ms per layer, its products alone {1e3 * predicted:.1f} ms: {100 * predicted / measured:.1f} % "
          f"({(attention_products + experts + attention) / measured:.0f} GF/s)")

    steps = 32
    measured = seconds_per_layer(arguments.program, arguments.folder, "tg", steps, tokens, arguments.reps, 5, arguments.threads) / steps
    read = 2e-9 * (HIDDEN * DIM * (2 * HEADS + 2 * KV_HEADS) + EXPERTS * HIDDEN + CHOSEN * 3 * HIDDEN * INNER)
    bandwidth = rate(rows, "read", "", 0)["gbytes"]
    print(f"decode: {1e3 * measured:.3f} ms per layer and token, {read / measured:.1f} GB/s of weights: {100 * read / measured / bandwidth:.1f} % of "
          f"reading in order ({bandwidth:.1f} GB/s)")


if __name__ == "__main__":
    main()
