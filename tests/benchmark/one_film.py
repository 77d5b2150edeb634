#!/usr/bin/env python3
"""Several questions about one film, one after the other: the time of each with the prefix cache and without.

    one_film.py ZOETROPE FILM [--threads T] [--repetitions N]
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

QUESTIONS = ("What appears first?", "When does the green circle appear?", "What appears last?", "What happens in the video?")


def ask(program, film, threads, folder, flags):
    questions, answers = folder / "questions.jsonl", folder / "answers.jsonl"
    answers.unlink(missing_ok=True)
    with questions.open("w") as out:
        for number, text in enumerate(QUESTIONS):
            content = [{"type": "video_url", "video_url": {"url": str(film)}}, {"type": "text", "text": text}]
            out.write(json.dumps({"custom_id": str(number), "body": {"messages": [{"role": "user", "content": content}], "max_tokens": 24}}) + "\n")
    subprocess.run([program, "batch", "--input", questions, "--output", answers, "--sequences", "1", "--threads", str(threads), *flags],
                   check=True, capture_output=True)
    return [json.loads(line)["response"]["body"] for line in answers.read_text().splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("film", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(args.repetitions):
            texts = []
            for flags in ([], ["--no-prefix-cache"]):
                bodies = ask(args.program, args.film.resolve(), args.threads, pathlib.Path(folder), flags)
                texts.append([body["choices"][0]["message"]["content"] for body in bodies])
                for body in bodies:
                    usage, timing = body["usage"], body["timing"]
                    cached = usage["prompt_tokens_details"]["cached_tokens"]
                    print(f"{' '.join(flags) or 'cached':18s} {usage['prompt_tokens']:6d} prompt tokens, {cached:6d} cached: "
                          f"encode {1e3 * timing['encode_s']:8.2f} ms, prefill {1e3 * timing['prefill_s']:8.2f} ms")
            if texts[0] != texts[1]:
                raise SystemExit(f"the answers differ: {texts[0]} against {texts[1]}")


if __name__ == "__main__":
    main()
