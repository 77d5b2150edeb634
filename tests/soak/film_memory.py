#!/usr/bin/env python3
"""Memory while answering about long films: weights + KV + 512 MB at most, and no more for a long film than for a short one.

    film_memory.py PROGRAM [--minutes 10 120] [--ranks 0] [--size 1280x720] [--rate 25] [--max-frames N] [--plot FILE.svg] [--folder DIR]

Makes H.264 films that long (1,500 frames with motion, repeated without encoding them again), asks the bundled checkpoint about each with its
own sampling and with two frames a second (or N frames), and reads the ranks' memory five times a second. Counted is what a process has of
its own (private memory and shared memory by its part); pages of mapped files, which the system may drop, are shown apart. Where ranks share
their KV pages (the default on one host), which a growing context fills one by one, private memory is what should be flat: it is shown by
quarters of the time. --plot draws the last question's memory over time, a line for each rank, and below it the private part."""
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


def make_film(folder, minutes, size="1280x720", rate=25.0):
    part, film = folder / f"part-{size}-{rate:g}.mp4", folder / f"film-{size}-{rate:g}-{minutes}min.mp4"
    if not part.exists():
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}", "-frames:v", "1500", "-c:v", "libx264", "-preset", "veryfast",
                        "-pix_fmt", "yuv420p", "-g", "250", str(part)], check=True)
    if not film.exists():
        (folder / "list.txt").write_text(f"file '{part.resolve()}'\n" * max(1, round(minutes * 60 * rate / 1500)))
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", str(folder / "list.txt"), "-c", "copy", str(film)], check=True)
    return film


def memory_of(pid):
    """(own bytes, private part of them, bytes of mapped files), or None when the process is gone."""
    try:
        rows = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    value = {name: int(text.split()[0]) * 1024 for name, text in rows.items()}
    return value["Pss_Anon"] + value["Pss_Shmem"], value["Pss_Anon"], value["Pss_File"]


def children_running(program):
    wanted = program.resolve()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if pathlib.Path(os.readlink(entry / "exe")) == wanted:
                    yield int(entry.name)
            except OSError:
                pass


def plot(path, series, limit, title):
    """series: process -> [(second, own bytes, private bytes)], as an SVG: two lines for each rank, the most of every second, and one for the limit."""
    most = lambda points, at: sorted({int(point[0]): point[at] for point in sorted(points, key=lambda point: point[at])}.items())
    private = {rank: most(points, 2) for rank, points in series.items()}
    series = {rank: most(points, 1) for rank, points in series.items()}
    width, height, left, bottom = 860, 320, 60, 40
    seconds = max(second for points in series.values() for second, _ in points) or 1
    top = max([limit] + [size for points in series.values() for _, size in points]) * 1.1
    x = lambda second: left + (width - left - 20) * second / seconds
    y = lambda size: height - bottom - (height - bottom - 30) * size / top
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="18">{title}</text>']
    for step in range(5):
        size, second = top * step / 4, seconds * step / 4
        lines.append(f'<text x="4" y="{y(size) + 4:.0f}">{size / 2**20:.0f} MB</text><line x1="{left}" x2="{width - 20}" y1="{y(size):.1f}" y2="{y(size):.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{x(second) - 10:.0f}" y="{height - 12}">{second:.0f} s</text>')
    lines.append(f'<line x1="{left}" x2="{width - 20}" y1="{y(limit):.1f}" y2="{y(limit):.1f}" stroke="red" stroke-dasharray="6 4"/><text x="{left + 6}" y="{y(limit) - 4:.0f}" fill="red">allowed</text>')
    for number, (rank, points) in enumerate(sorted(series.items())):
        colour = ("#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e")[number % 4]
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(f"{x(s):.1f},{y(b):.1f}" for s, b in points)}"/>')
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="3 3" points="{" ".join(f"{x(s):.1f},{y(b):.1f}" for s, b in private[rank])}"/>')
        lines.append(f'<text x="{width - 190}" y="{44 + 16 * number}" fill="{colour}">rank {number} (dashed: private)</text>')
    path.write_text("\n".join(lines) + "\n</svg>\n", encoding="utf-8")


def ask(program, film, ranks, more):
    words = [str(program), "ask", "--json", "--verbose", "--kv-memory", "256MiB", "--max-tokens", "16", "--video", str(film), *more, "What appears first?"]
    if ranks:
        words = [str(SOURCE / "deploy" / "mpi" / "launch.sh"), str(ranks), *words]
    with tempfile.TemporaryFile("w+") as log:
        job = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        began, series, files = time.monotonic(), {}, 0
        while job.poll() is None:
            for pid in children_running(program):
                memory = memory_of(pid)
                if memory:
                    series.setdefault(pid, []).append((time.monotonic() - began, memory[0], memory[1]))
                    files = max(files, memory[2])
            time.sleep(0.2)
        log.seek(0)
        text = log.read()
    if job.returncode != 0:
        sys.exit(f"film_memory.py: {film}: exit code {job.returncode}: {text}")
    answer = json.loads(job.stdout.read())
    ready = next(line for line in text.splitlines() if "weights_bytes" in line)
    number = lambda name: int(ready.split(name + "=")[1].split()[0].strip(",}"))
    pages = -(-(answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]) // 256)  # those that were touched
    pages = -(-pages // max(1, ranks))  # a rank's part of them when they are spread; else the rest below is shown too large
    peaks = {pid: max(size for _, size, _ in points) for pid, points in series.items()}
    return {"answer": answer, "peak": max(peaks.values()), "files": files, "weights": number("weights_bytes"), "kv": number("kv_bytes") // number("kv_pages") * pages,
            "seconds": time.monotonic() - began, "series": series}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--minutes", type=int, nargs="+", default=[10, 120])
    parser.add_argument("--ranks", type=int, default=0, help="0: without a launcher")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rate", type=float, default=25.0, help="frames a second")
    parser.add_argument("--max-frames", type=int, help="of the second question; default two a second")
    parser.add_argument("--plot", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, help="keep the films there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        failed = False
        for minutes in arguments.minutes:
            film = make_film(folder, minutes, arguments.size, arguments.rate)
            frames = arguments.max_frames or 120 * minutes
            for more in ([], ["--fps", str(min(2.0, arguments.rate)), "--max-frames", str(frames), "--total-pixels", str(frames * 4096)]):
                result = ask(arguments.program, film, arguments.ranks, more)
                rest = result["peak"] - result["weights"] - result["kv"]
                media = result["answer"]["media"][0]
                quarter = max(points[-1][0] for points in result["series"].values()) / 4
                private = [max([size for points in result["series"].values() for at, _, size in points if int(at // quarter) == number] or [0]) >> 20 for number in range(4)]
                print(f"{minutes} minutes, {media['frames_used']} frames, {result['answer']['usage']['prompt_tokens']} prompt tokens: peak {result['peak'] >> 20} MB of one rank = "
                      f"weights {result['weights'] >> 20} + KV {result['kv'] >> 20} + {rest >> 20} MB (allowed {LIMIT >> 20}); private memory by quarters of the time "
                      f"{', '.join(map(str, private))} MB; film decoded in {result['answer']['film_decode_s']:.1f} s, waited for {result['answer']['film_wait_s']:.1f} s; mapped files {result['files'] >> 20} MB; {result['seconds']:.1f} s", flush=True)
                failed = failed or rest > LIMIT
                if arguments.plot:
                    plot(arguments.plot, result["series"], LIMIT + result["weights"] + result["kv"],
                         f"{minutes} minutes, {media['frames_used']} frames, {result['answer']['usage']['prompt_tokens']} prompt tokens: memory of each rank, MB")
        sys.exit("film_memory.py: more memory than allowed" if failed else 0)


if __name__ == "__main__":
    main()
