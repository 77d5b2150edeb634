#!/usr/bin/env python3
"""How fast a film is taken in, beside libavcodec alone: interleaved runs of both on the same film and cores.

    film_rate.py PROGRAM [--minutes 10] [--film FILE] [--threads 2] [--ranks 0] [--rounds 2] [--folder DIR] [-- words for ask]

libavcodec alone: `ffmpeg -threads T -f null`, which decodes every picture and converts none. The program answers one question about
the film with the bundled checkpoint; all of its start, prefill and answer are in its time. Printed for every run: wall time, CPU time of
the process and its children, pictures of the film a second, and the wall time over CPU time / cores (1: no core was idle)."""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "soak"))
import film_memory  # noqa: E402  (makes the films)


def timed(words):
    """(standard output, wall seconds, CPU seconds)."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"film_rate.py: {' '.join(words)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--film", type=pathlib.Path, help="this film instead of a generated one")
    parser.add_argument("--threads", type=int, default=2, help="of ffmpeg, and of all ranks together")
    parser.add_argument("--ranks", type=int, default=0, help="0: without a launcher")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path, help="keep the film there")
    words_at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, more = parser.parse_args(sys.argv[1:words_at]), sys.argv[words_at + 1:]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        film = arguments.film or film_memory.make_film(folder, arguments.minutes)
        alone = ["ffmpeg", "-v", "error", "-threads", str(arguments.threads), "-i", str(film), "-map", "0:v:0", "-f", "null", "-"]
        ask = [str(arguments.program), "ask", "--json", "--threads", str(max(1, arguments.threads // max(1, arguments.ranks))), "--max-tokens", "8",
               "--video", str(film), *more, "What appears first?"]
        if arguments.ranks:
            ask = [str(SOURCE / "deploy" / "mpi" / "launch.sh"), str(arguments.ranks), *ask]
        rates, idle = {"libavcodec": [], "zoetrope": []}, []
        for _ in range(arguments.rounds):
            _, wall, cpu = timed(alone)
            libavcodec = wall
            out, ask_wall, ask_cpu = timed(ask)
            answer = json.loads(out)
            frames = answer["media"][0]["source_frames"]
            rates["libavcodec"].append(frames / libavcodec)
            rates["zoetrope"].append(frames / ask_wall)
            idle.append(ask_wall * arguments.threads / ask_cpu)
            print(f"libavcodec alone {wall:6.2f} s, CPU {cpu:6.2f} s, {frames / wall:7.0f} pictures/s | zoetrope {ask_wall:6.2f} s, CPU {ask_cpu:6.2f} s, "
                  f"{frames / ask_wall:7.0f} pictures/s, wall over CPU/{arguments.threads} cores {idle[-1]:.3f}; frames used {answer['media'][0]['frames_used']}, "
                  f"prompt tokens {answer['usage']['prompt_tokens']}, film decoded in {answer['film_decode_s']:.2f} s (CPU {answer['film_cpu_s']:.2f}), waited for "
                  f"{answer['film_wait_s']:.2f}, encode {answer['encode_s']:.2f}, prefill {answer['prefill_s']:.2f}", flush=True)
        ratio = statistics.median(rates["zoetrope"]) / statistics.median(rates["libavcodec"])
        print(f"film_rate.py: {ratio:.2f} of the rate of libavcodec alone, wall over CPU / cores {statistics.median(idle):.3f}")


if __name__ == "__main__":
    main()
