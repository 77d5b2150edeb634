"""The innermost loops of the matrix kernels, read from their object files: no accumulator may live on the stack there.

check_tiles.py OBJECT...   fails when a loop over k of a fma_tile, dot_tile or dot_panel touches the stack, or when none is found.
"""
import re
import subprocess
import sys


def functions(path):
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-C", path], check=True, capture_output=True, text=True).stdout
    name, found = None, {}
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            name = head.group(1)
            found[name] = []
        elif name and (row := re.match(r"\s*([0-9a-f]+):\s+(.*)$", line)):
            found[name].append((int(row.group(1), 16), row.group(2)))
    return found


def loops_over_k(instructions, prefetches):
    """Bodies of backward jumps that multiply and, as it should be, prefetch or do not."""
    place = {address: i for i, (address, _) in enumerate(instructions)}
    for i, (address, text) in enumerate(instructions):
        jump = re.match(r"j\w+\s+([0-9a-f]+)", text)
        if jump and int(jump.group(1), 16) in place and int(jump.group(1), 16) < address:
            body = [t for _, t in instructions[place[int(jump.group(1), 16)] : i + 1]]
            if any("prefetch" in t for t in body) == prefetches and any(re.match(r"v(fmadd|dpbf16)", t) for t in body):
                yield body


def main(paths):
    seen, bad = 0, []
    for path in paths:
        found = functions(path)
        kinds = lambda loop: {kind for name in found for kind in re.findall(loop + r"<(\d+, \w+)[,>]", name)}
        bad += [f"{path}: dot_slice<{kind}> without a dot_panel of its own: its sums are on the stack" for kind in kinds("dot_slice") - kinds("dot_panel")]
        for name, instructions in found.items():
            if not re.search(r"((fma|dot)_tile|dot_panel)<", name):
                continue
            before = seen
            for body in loops_over_k(instructions, not re.search(r"dot_panel<\d+, false", name)):
                seen += 1
                bad += [f"{name}: {t}" for t in body if re.search(r"%r[sb]p", t)]
            if "dot_panel<" in name and seen == before:
                bad.append(f"{name}: no loop over k")
    print(f"{seen} loops over k, {len(bad)} instructions on the stack")
    print("\n".join(bad[:20]))
    return 1 if bad or seen == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
