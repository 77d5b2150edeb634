#!/usr/bin/env python3
"""Fresh films of any length in the world of the bundled checkpoint, with questions and what is right.

    make_questions.py --out FOLDER [--films 3] [--minutes 1] [--fps 2] [--size 256x256] [--events 8] [--seed 1]

Writes film-N.mp4 (H.264, encoded by the `ffmpeg` command), questions.jsonl (OpenAI batch lines: `zoetrope batch --input`),
answers.json (for deploy/demo/score.py) and ground_truth.json. A film of more than 384 seconds is asked with a frame sampled
every half second and 4096 pixels for each, as ../README.md advises; a shorter one with the checkpoint's own sampling. Needs numpy and ffmpeg."""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

try:
    import numpy as np
except ImportError as missing:
    sys.exit(f"make_questions.py: {missing}: expected NumPy; install it (apt install python3-numpy)")

import tasks
from make_films import KINDS, pair_table, random_film, render, sampled_frames


def write_film(path, scene, seconds, fps, width, height):
    """Frames that show the same shapes are drawn once."""
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-", "-c:v", "libx264",
               "-preset", "medium", "-crf", "23", "-g", "250", "-pix_fmt", "yuv420p", str(path)]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    shown, picture = None, b""
    for index in range(int(round(seconds * fps))):
        time = index / fps + 1e-6
        now = [id(shape) for shape in scene.visible(time)]
        if now != shown or any(shape.vx or shape.vy for shape in scene.visible(time)):
            shown, picture = now, (np.clip(render(scene, time, height, width), 0, 1) * 255 + 0.5).astype(np.uint8).tobytes()
        encoder.stdin.write(picture)
    encoder.stdin.close()
    if encoder.wait() != 0:
        sys.exit(f"make_questions.py: ffmpeg could not write {path}: exit code {encoder.returncode}")


def absent_kind(rng, kinds):
    return " ".join(tasks.pick(rng, [kind for kind in KINDS if kind not in kinds]))


def questions_about(rng, events):
    named = [(time, shape.name) for time, shape in events]
    kinds = [(shape.colour, shape.shape) for _, shape in events]
    order = list(rng.permutation(len(named)))
    asked = [tasks.when(rng, named[i][1], named[i][0]) for i in order[:4]]
    asked.append(tasks.when(rng, absent_kind(rng, kinds), None))
    asked += [tasks.what_at(rng, *named[i]) for i in order[:2]]
    asked.append(tasks.video_has(rng, named[order[-1]][1], named[order[-1]][0]))
    asked.append(tasks.video_has(rng, absent_kind(rng, kinds), None))
    return asked


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--films", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=1.0, help="length of each film")
    parser.add_argument("--fps", type=float, default=2.0, help="frame rate of the films")
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--events", type=int, default=8, help="shapes that appear in each film, at most 24")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        sys.exit("make_questions.py: found no ffmpeg command, expected Debian's ffmpeg; run deploy/install-dependencies.sh")
    if not (arguments.films >= 1 and arguments.minutes > 0 and arguments.fps > 0 and 2 <= arguments.events <= 24):
        sys.exit(f"make_questions.py: found --films {arguments.films} --minutes {arguments.minutes} --fps {arguments.fps} --events {arguments.events}, "
                 "expected at least one film, positive numbers and 2 to 24 events")
    width, height = (int(side) for side in arguments.size.split("x"))
    seconds = 60 * arguments.minutes
    total = int(round(seconds * arguments.fps))
    long = seconds > 384
    most = min(total, int(2 * seconds)) if long else 768
    rng = np.random.default_rng(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines, answers, truth = [], {}, {}
    for number in range(1, arguments.films + 1):
        scene, events = random_film(rng, seconds, arguments.fps, width / height, arguments.events, (0.26, 0.36) if seconds > 150 else (0.2, 0.3),
                                    False, False, 2 if seconds > 150 else 3, most)
        name = f"film-{number}.mp4"
        write_film(arguments.out / name, scene, seconds, arguments.fps, width, height)
        truth[name] = {"seconds": seconds, "fps": arguments.fps, "size": [width, height],
                       "frame_pairs": len(pair_table(sampled_frames(total, arguments.fps, most=most), arguments.fps)),
                       "shapes": [{"name": shape.name, "start": round(shape.start, 3), "end": round(min(shape.end, seconds), 3), "first_timestamp": f"{time:.1f}"}
                                  for time, shape in events]}
        extra = {"mm_processor_kwargs": {"max_frames": most, "total_pixels": most * 4096}} if long else {}
        for index, (question, answer) in enumerate(questions_about(rng, events), 1):
            custom_id = f"film-{number}-q{index}"
            content = [{"type": "video_url", "video_url": {"url": name}}, {"type": "text", "text": question}]
            lines.append({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions",
                          "body": {"model": "lantern-moe", "messages": [{"role": "user", "content": content}], "max_tokens": 160, "temperature": 0, **extra}})
            answers[custom_id] = {"question": question, "expected": answer}
    (arguments.out / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (arguments.out / "answers.json").write_text(json.dumps(answers, indent=1))
    (arguments.out / "ground_truth.json").write_text(json.dumps(truth, indent=1))
    print(f"{arguments.films} film{'s' if arguments.films > 1 else ''} of {arguments.minutes:g} minutes, {len(lines)} questions in {arguments.out}")


if __name__ == "__main__":
    main()
