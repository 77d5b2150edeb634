#!/usr/bin/env python3
"""score.py EXPECTED ANSWERS: how many answers of a batch are right, and how many are the reference's own.

EXPECTED has for every custom_id the expected answer and, in models/samples/answers.json, what the reference implementation
said in float32 and in bfloat16 (models/tools/make_questions.py writes only the former). A bounding box counts as right when it overlaps the expected one by half."""
import json
import sys


def box(text):
    try:
        return json.loads(text)["bbox_2d"]
    except (ValueError, KeyError, TypeError):
        return None


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def right(answer, expected):
    if answer == expected:
        return True
    a, b = box(answer), box(expected)
    return a is not None and b is not None and len(a) == len(b) == 4 and overlap(a, b) >= 0.5


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        expected = json.load(file)
    answers, errors = {}, 0
    with open(sys.argv[2], encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            if record["error"] is not None:
                errors += 1
            else:
                answers[record["custom_id"]] = record["response"]["body"]["choices"][0]["message"]["content"]
    compared = all("float32" in row for row in expected.values())
    count = {"right": 0, "float32": 0, "bfloat16": 0}
    for name, row in expected.items():
        said = answers.get(name)
        count["right"] += said is not None and right(said, row["expected"])
        for kind in ("float32", "bfloat16") if compared else ():
            count[kind] += said == row[kind]["text"]
    print(f"{len(answers)} of {len(expected)} questions answered, {errors} errors: {count['right']} right", end="")
    if compared:
        reference = sum(row["bfloat16"]["right"] for row in expected.values())
        print(f" (the reference: {reference}); {count['bfloat16']} equal to the reference's bfloat16 answers, {count['float32']} to its float32 answers", end="")
    print()


main()
