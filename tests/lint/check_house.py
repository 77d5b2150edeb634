#!/usr/bin/env python3
"""The order of the house, walked: fails on an #include that breaks the order of the rooms, a vendor header outside the folder
that wraps it, a source without a test twin, or a file that has grown beyond one subject.

    check_house.py SOURCE_FOLDER            checks the tree
    check_house.py SOURCE_FOLDER --selftest breaks each rule once in memory and demands that it is noticed
"""
import pathlib
import re
import sys

ROOMS = ("monitoring", "kernels", "parallel", "scheduler", "runtime")
# room -> rooms it may include besides itself
MAY_INCLUDE = {
    "monitoring": set(),
    "kernels": {"monitoring"},
    "parallel": {"kernels", "monitoring"},
    "scheduler": {"monitoring"},
    "runtime": {"monitoring", "kernels", "parallel", "scheduler"},
}
SCHEDULER_VALUE_HEADERS = {"parallel/layout.h", "parallel/span.h"}
# folder of runtime -> folders of runtime it may include besides itself, and rooms it may include
RUNTIME = {
    "json": (set(), {"monitoring"}),
    "text": ({"json"}, {"monitoring"}),
    "media": ({"json"}, {"monitoring"}),
    "checkpoint": ({"json"}, {"monitoring"}),
    "prompt": ({"json", "text", "media", "checkpoint"}, {"monitoring", "kernels"}),
    "model": ({"checkpoint"}, {"monitoring", "kernels", "parallel"}),
    "engine": ({"json", "text", "media", "checkpoint", "prompt", "model"}, {"monitoring", "kernels", "parallel", "scheduler"}),
    "batch": ({"json", "text", "media", "checkpoint", "prompt", "engine"}, {"monitoring"}),
    "cli": (None, {"monitoring", "kernels", "parallel", "scheduler"}),
    "": (None, {"monitoring", "kernels", "parallel", "scheduler"}),
}
# of kernels, prompt may use value types only
PROMPT_KERNELS = {"kernels/rotary.h", "kernels/sample.h"}
# vendor header -> folders whose sources may include it
VENDORS = [
    (r"mpi\.h", ("parallel/backend",)),
    (r"nccl\.h|ucp/.*|ucs/.*", ("parallel/backend",)),
    (r"cuda.*|cublas.*", ("kernels/cuda",)),
    (r"libav.*|libsw.*|jpeglib\.h|png\.h|webp/.*|gif_lib\.h", ("runtime/media",)),
    (r"utf8proc\.h", ("runtime/text",)),
    (r"openssl/.*", ("runtime/text", "runtime/checkpoint")),
    (r"spdlog/.*", ("monitoring",)),
    (r"boost/json.*", ("runtime/json",)),
    (r"CLI/.*", ("runtime/cli",)),
    (r".*intrin\.h", ("kernels", "runtime/media")),
]
LINES_MAX = 600
COLUMNS_MAX = 120  # but for lines of JSON
JSON_TEXT = re.compile(r'[{,] ?"\w+": ?')
# source without a test file of its own name -> the test that covers it, which must exist
NO_TWIN = {
    # Bodies: one test of the op walks all of them and compares bit for bit.
    **{f"kernels/{folder}/{family}.cc": f"tests/kernels/{test}_test.cc"
       for folder in ("reference", "cpu/portable", "cpu/avx2", "cpu/avx512")
       for family, test in (("matmul", "matmul"), ("attention", "attention"), ("row", "norm"))},
    "kernels/cpu/avx512/matmul_bf16.cc": "tests/kernels/matmul_test.cc",
    "kernels/cpu/avx512/attention_bf16.cc": "tests/kernels/attention_test.cc",
    "kernels/reference/elementary.cc": "tests/kernels/simd_test.cc",
    "kernels/benchmark_matmul.cc": "tests/kernels/benchmark_test.cc",
    "kernels/benchmark_attention.cc": "tests/kernels/benchmark_test.cc",
    # Commands: run as a user runs them.
    **{f"runtime/cli/{command}.cc": "tests/system/system_test.py"
       for command in ("ask", "batch_command", "bench_exchange", "bench_fabric", "bench_kernels", "bench_model", "bench_pipeline", "bench_ring", "bench_streams",
                       "cli", "inspect_command", "launch", "version_command")},
    "runtime/main.cc": "tests/system/system_test.py",
    # Parts of one class, tested through it.
    "runtime/engine/answer_builder.cc": "tests/runtime/engine/engine_test.cc",
    "runtime/engine/film_rounds.cc": "tests/runtime/engine/engine_test.cc",
    "scheduler/admission.cc": "tests/scheduler/planner_test.cc",
    "scheduler/units.cc": "tests/scheduler/planner_test.cc",
    "scheduler/growth.cc": "tests/scheduler/planner_growth_test.cc",
    "scheduler/sequence_pages.cc": "tests/scheduler/planner_test.cc",
    "runtime/prompt/fingerprint.cc": "tests/runtime/prompt/prompt_test.cc",
    "runtime/prompt/frame_table_cache.cc": "tests/runtime/prompt/prompt_test.cc",
    "runtime/prompt/prompt_wire.cc": "tests/runtime/engine/step_message_test.cc",
    "runtime/prompt/unit_reader.cc": "tests/runtime/prompt/prompt_test.cc",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)


def room_complaint(name, include):
    room, target = name.split("/")[0], include.split("/")[0]
    if target not in ROOMS or target == room and room != "runtime":
        return None
    if room != "runtime":
        if target in MAY_INCLUDE[room] or room == "scheduler" and include in SCHEDULER_VALUE_HEADERS:
            return None
        return f"{room} may include only {', '.join(sorted(MAY_INCLUDE[room])) or 'itself'}"
    parts = name.split("/")
    folder = parts[1] if len(parts) > 2 else ""
    if folder not in RUNTIME:
        return f"runtime/{folder} is not a known folder"
    folders, rooms = RUNTIME[folder]
    if target != "runtime":
        if target not in rooms:
            return f"runtime/{folder} may include of the rooms only {', '.join(sorted(rooms))}"
        if folder == "prompt" and target == "kernels" and include not in PROMPT_KERNELS:
            return f"runtime/prompt may include of kernels only {', '.join(sorted(PROMPT_KERNELS))}"
        return None
    other = include.split("/")[1] if include.count("/") > 1 else ""
    if folders is None or other == folder or other in folders:
        return None
    return f"runtime/{folder} may include of runtime only {', '.join(sorted(folders)) or 'itself'}"


def vendor_complaint(name, include):
    for pattern, folders in VENDORS:
        if re.fullmatch(pattern, include) and not any(name.startswith(folder + "/") for folder in folders):
            return f"only {', '.join(folders)} may include it"
    return None


def check(files):
    """files: name -> text, of sources and tests. Returns complaints."""
    complaints = []
    for name, text in sorted(files.items()):
        if name.split("/")[0] not in ROOMS:
            continue
        for include in INCLUDE.findall(text):
            for rule in (room_complaint, vendor_complaint):
                if why := rule(name, include):
                    complaints.append(f"{name} includes {include}: {why}")
        lines = text.count("\n")
        if lines > LINES_MAX:
            complaints.append(f"{name} has {lines} lines, expected at most {LINES_MAX}: one subject to a file")
        if name.endswith((".h", ".cc")):
            for number, line in enumerate(text.splitlines(), 1):
                if len(line) > COLUMNS_MAX and not JSON_TEXT.search(line):
                    complaints.append(f"{name}:{number} has {len(line)} columns, expected at most {COLUMNS_MAX}: format it")
        if name.endswith(".cc"):
            twin = "tests/" + name[:-3] + "_test.cc"
            if twin not in files and name not in NO_TWIN:
                complaints.append(f"{name} has no test twin {twin}: write one, or say in NO_TWIN why it needs none")
    for name, test in NO_TWIN.items():
        if name not in files:
            complaints.append(f"NO_TWIN names {name}, which does not exist")
        elif test not in files:
            complaints.append(f"NO_TWIN says that {test} covers {name}, but it does not exist")
        elif "tests/" + name[:-3] + "_test.cc" in files:
            complaints.append(f"NO_TWIN names {name}, which has a test twin")
    return complaints


def tree(root):
    files = {}
    for folder in (*ROOMS, "tests"):
        for path in (root / folder).rglob("*"):
            if path.suffix in (".h", ".cc", ".cu", ".cuh") or path.name.endswith("_test.py"):
                files[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
    return files


def selftest(root):
    """Each rule broken once: a lint that cannot fail proves nothing."""
    good = tree(root)
    broken = {
        "kernels looks up": ("kernels/norm.h", '#include "parallel/layout.h"\n'),
        "scheduler reaches into parallel": ("scheduler/planner.cc", '#include "parallel/communicator.h"\n'),
        "text includes media": ("runtime/text/tokenizer.cc", '#include "runtime/media/picture.h"\n'),
        "batch includes model": ("runtime/batch/batch.cc", '#include "runtime/model/model.h"\n'),
        "a vendor header outside its room": ("scheduler/planner.cc", "#include <mpi.h>\n"),
        "a source without a twin": ("kernels/orphan.cc", "\n"),
        "a file of 700 lines": ("kernels/norm.h", "\n" * 700),
        "a line of 130 columns": ("kernels/norm.h", "// " + "x" * 127 + "\n"),
    }
    before = set(check(good))
    for what, (name, addition) in broken.items():
        files = dict(good)
        files[name] = files.get(name, "") + addition
        if not set(check(files)) - before:
            sys.exit(f"check_house.py: '{what}' was not noticed")
    print(f"check_house.py: {len(broken)} broken rules were all noticed")


def main():
    root = pathlib.Path(sys.argv[1])
    if "--selftest" in sys.argv:
        selftest(root)
        return
    files = tree(root)
    complaints = check(files)
    for complaint in complaints:
        print(complaint)
    print(f"check_house.py: {len(files)} files, {len(complaints)} complaints")
    sys.exit(1 if complaints else 0)


main()
