#!/usr/bin/env python3
"""One film in so many tokens of prompt: the same tokens and log-probabilities in every layout, and memory as planned.

    long_context.py PROGRAM [--tokens 262144] [--layouts 1 2 2m 2p] [--folder DIR] [--plot FILE.svg] [--timeout SECONDS]

Makes a film of coloured shapes in 64x64 (4 tokens and a time for each pair of frames; an hour of it, repeated without encoding it again) long
enough for N tokens, and asks the bundled checkpoint about it. Layouts: 1 is one process; 2 two ranks with the context spread over them in
memory that they share; 2m the same by messages; 2p two stages of a pipeline. All that are named must draw the same tokens, with equal
log-probabilities of the 20 likeliest. A short question, asked twice, shows what a rank takes beside what is planned for it (the larger peak); with what the program logs as
planned for the long one (`memory planned`: KV, pages that visit by messages, prompt, patches and features of the film) that is the plan, and the
peak (PSS; mapped files apart) may be 5 % off it."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import film_memory

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "models" / "tools"))
PAIR_TOKENS = 13  # of a 64x64 pair, at least: 4 of pixels, the digits of its time, what encloses them
SHORT_FRAMES = 512  # of the short question, over the whole film, so that its times have as many digits
LAYOUTS = {"1": (0, ()), "2": (2, ("--span", "2", "--ring-transport", "shared")), "2m": (2, ("--span", "2", "--ring-transport", "messages")), "2p": (2, ("--pp", "2"))}
QUESTION = "What appears first?"


def make_film(folder, frames):
    """One frame a second; an hour with a dozen shapes, repeated."""
    from make_films import random_film  # says in a line where NumPy is missing
    from make_questions import write_film
    import numpy as np
    hour, film = folder / "hour.mp4", folder / f"film-{frames}.mp4"
    if not hour.exists():
        scene, _ = random_film(np.random.default_rng(11), 3600, 1.0, 1.0, 12, moving=False, most=3600)
        write_film(hour, scene, 3600, 1.0, 64, 64)
    (folder / "list.txt").write_text(f"file '{hour.resolve()}'\n" * -(-frames // 3600))
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", str(folder / "list.txt"), "-c", "copy", str(film)], check=True)
    return film


def ask(program, folder, film, frames, layout, timeout):
    """The record of one question with log-probabilities, and the memory of each rank over time."""
    ranks, more = LAYOUTS[layout]
    body = {"model": "lantern-moe", "messages": [{"role": "user", "content": [{"type": "video", "video": str(film)}, {"type": "text", "text": QUESTION}]}],
            "max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 20,
            "mm_processor_kwargs": {"num_frames": frames, "total_pixels": frames * 4096}}
    lines, out = folder / "in.jsonl", folder / f"out-{layout}-{frames}.jsonl"
    lines.write_text(json.dumps({"custom_id": "long", "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n")
    out.unlink(missing_ok=True)
    words = [str(program), "batch", "--verbose", "--input", str(lines), "--output", str(out), *more]
    if ranks:
        words = [str(SOURCE / "deploy" / "mpi" / "launch.sh"), str(ranks), *words]
    before, series, began = set(film_memory.children_running(program)), {}, time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        job = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log, text=True)
        try:
            while job.poll() is None:
                if time.monotonic() - began > timeout:
                    sys.exit(f"long_context.py: layout {layout}, {frames} frames: no answer in {timeout} s; raise --timeout")
                for pid in set(film_memory.children_running(program)) - before:
                    memory = film_memory.memory_of(pid)
                    if memory:
                        series.setdefault(pid, []).append((time.monotonic() - began, *memory[:2]))
                time.sleep(0.2 if time.monotonic() - began > 5 else 0.02)  # a short question is over in half a second
        finally:
            if job.poll() is None:
                job.terminate()
                job.wait()
        log.seek(0)
        text = log.read()
    if job.returncode != 0:
        sys.exit(f"long_context.py: layout {layout}: exit code {job.returncode}: {text}")
    record = json.loads(out.read_text())
    if record["error"] is not None:
        sys.exit(f"long_context.py: layout {layout}: {record['error']}")
    planned = next(line for line in text.splitlines() if "memory planned" in line)
    number = lambda name: int(planned.split(name + "=")[1].split()[0])
    return {"body": record["response"]["body"], "seconds": time.monotonic() - began, "series": {rank: points for rank, (_, points) in enumerate(sorted(series.items()))},
            "peak": max(size for points in series.values() for _, size, _ in points), "plan": {name: number(name) for name in ("kv_bytes", "visiting_bytes", "weights_bytes", "prompt_bytes", "film_bytes")}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=262144)
    parser.add_argument("--layouts", nargs="+", choices=sorted(LAYOUTS), default=["1", "2"])
    parser.add_argument("--timeout", type=float, default=14400, help="seconds of one answer")
    parser.add_argument("--plot", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, help="keep the films there")
    arguments = parser.parse_args()
    failed, said = False, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        film = make_film(folder, 2 * -(-arguments.tokens // PAIR_TOKENS))
        for layout in arguments.layouts:
            short = max((ask(arguments.program, folder, film, SHORT_FRAMES, layout, arguments.timeout) for _ in range(2)), key=lambda answer: answer["peak"])
            frames = 2 * round(1.004 * arguments.tokens / (short["body"]["usage"]["prompt_tokens"] / (SHORT_FRAMES / 2)))
            long = ask(arguments.program, folder, film, frames, layout, arguments.timeout)
            body, usage = long["body"], long["body"]["usage"]
            if usage["prompt_tokens"] < arguments.tokens:
                sys.exit(f"long_context.py: {usage['prompt_tokens']} prompt tokens of {frames} frames, expected at least {arguments.tokens}")
            said[layout] = body["choices"][0]["logprobs"]["content"]
            of_context = lambda answer: sum(answer["plan"][name] for name in ("kv_bytes", "visiting_bytes", "prompt_bytes", "film_bytes"))
            program = short["peak"] - of_context(short)
            planned = program + of_context(long)
            off = long["peak"] / planned - 1
            failed = failed or abs(off) > 0.05
            print(f"layout {layout}: {usage['prompt_tokens']} prompt tokens, {usage['completion_tokens']} drawn in {long['seconds']:.1f} s; peak {long['peak'] / 2**20:.1f} MiB of one rank, planned "
                  f"{planned / 2**20:.1f} ({off:+.1%}) = KV {long['plan']['kv_bytes'] / 2**20:.1f} + pages that visit {long['plan']['visiting_bytes'] / 2**20:.1f} + prompt {long['plan']['prompt_bytes'] / 2**20:.1f} + film {long['plan']['film_bytes'] / 2**20:.1f} "
                  f"+ the rest {program / 2**20:.1f} (weights {long['plan']['weights_bytes'] / 2**20:.1f})", flush=True)
            if arguments.plot:
                film_memory.plot(arguments.plot.with_stem(f"{arguments.plot.stem}-{layout}"), long["series"], planned, f"{usage['prompt_tokens']} prompt tokens, layout {layout}: memory of each rank")
    different = [layout for layout in said if said[layout] != said[arguments.layouts[0]]]
    if different:
        sys.exit(f"long_context.py: layouts {different} answer differently from {arguments.layouts[0]}: {said}")
    print(f"the same {len(said[arguments.layouts[0]])} tokens and log-probabilities in layouts {', '.join(said)}")
    sys.exit("long_context.py: memory is more than 5 % off the plan" if failed else 0)


if __name__ == "__main__":
    main()
