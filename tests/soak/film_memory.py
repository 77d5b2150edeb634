#!/usr/bin/env python3
"""Memory while answering about long films: weights + KV + 512 MB at most, and no more for a long film than for a short one.

    film_memory.py PROGRAM [--minutes 10 120] [--ranks 0] [--folder DIR]

Makes 1280x720 H.264 films of 25 frames a second that long (a minute with motion, repeated without encoding it again), asks the bundled
checkpoint about each with its own sampling, and reads the ranks' memory five times a second. Counted is what a process has of its own
(private memory and shared memory by its part); pages of mapped files, which the system may drop, are shown apart."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 512 << 20


def make_film(folder, minutes):
    minute, film = folder / "minute.mp4", folder / f"film-{minutes}min.mp4"
    if not minute.exists():
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=60", "-c:v", "libx264", "-preset", "veryfast",
                        "-pix_fmt", "yuv420p", "-g", "250", str(minute)], check=True)
    if not film.exists():
        (folder / "list.txt").write_text(f"file '{minute}'\n" * minutes)
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", str(folder / "list.txt"), "-c", "copy", str(film)], check=True)
    return film


def memory_of(pid):
    """(own bytes, bytes of mapped files), or None when the process is gone."""
    try:
        rows = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    value = {name: int(text.split()[0]) * 1024 for name, text in rows.items()}
    return value["Pss_Anon"] + value["Pss_Shmem"], value["Pss_File"]


def children_running(program):
    wanted = program.resolve()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if pathlib.Path(os.readlink(entry / "exe")) == wanted:
                    yield int(entry.name)
            except OSError:
                pass


def ask(program, film, ranks, more):
    words = [str(program), "ask", "--json", "--verbose", "--kv-memory", "256MiB", "--max-tokens", "16", "--video", str(film), *more, "What appears first?"]
    if ranks:
        words = [str(SOURCE / "deploy" / "mpi" / "launch.sh"), str(ranks), *words]
    with tempfile.TemporaryFile("w+") as log:
        job = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        began, peak, files, samples = time.monotonic(), {}, 0, []
        while job.poll() is None:
            total = 0
            for pid in children_running(program):
                memory = memory_of(pid)
                if memory:
                    peak[pid] = max(peak.get(pid, 0), memory[0])
                    files, total = max(files, memory[1]), max(total, memory[0])
            samples.append(total)
            time.sleep(0.2)
        log.seek(0)
        text = log.read()
    if job.returncode != 0:
        sys.exit(f"film_memory.py: {film}: exit code {job.returncode}: {text}")
    answer = json.loads(job.stdout.read())
    ready = next(line for line in text.splitlines() if "weights_bytes" in line)
    number = lambda name: int(ready.split(name + "=")[1].split()[0].strip(",}"))
    pages = -(-(answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]) // 256)  # those that were touched
    return {"answer": answer, "peak": max(peak.values()), "files": files, "weights": number("weights_bytes"), "kv": number("kv_bytes") // number("kv_pages") * pages,
            "seconds": time.monotonic() - began, "samples": samples}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 120])
    parser.add_argument("--ranks", type=int, default=0, help="0: without a launcher")
    parser.add_argument("--folder", type=pathlib.Path, help="keep the films there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        failed = False
        for minutes in arguments.minutes:
            film = make_film(folder, minutes)
            for more in ([], ["--max-frames", str(120 * minutes), "--total-pixels", str(120 * minutes * 4096)]):
                result = ask(arguments.program, film, arguments.ranks, more)
                rest = result["peak"] - result["weights"] - result["kv"]
                media = result["answer"]["media"][0]
                half = len(result["samples"]) // 2
                print(f"{minutes} minutes, {media['frames_used']} frames, {result['answer']['usage']['prompt_tokens']} prompt tokens: peak {result['peak'] >> 20} MB of one rank = "
                      f"weights {result['weights'] >> 20} + KV {result['kv'] >> 20} + {rest >> 20} MB (allowed {LIMIT >> 20}); first half {max(result['samples'][:half] or [0]) >> 20}, "
                      f"second half {max(result['samples'][half:] or [0]) >> 20} MB; mapped files {result['files'] >> 20} MB; {result['seconds']:.1f} s", flush=True)
                failed = failed or rest > LIMIT
        sys.exit("film_memory.py: more memory than allowed" if failed else 0)


if __name__ == "__main__":
    main()
