#!/usr/bin/env python3
"""The program as a user runs it: answers, batches under mpirun that are killed and go on, and one line for every mistake.

    system_test.py PROGRAM SOURCE_FOLDER NAME     runs the test NAME (a function below)"""
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

PROGRAM, SOURCE = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
SAMPLES = SOURCE / "models" / "samples"


def run(*words, ranks=0, timeout=120):
    command = [str(PROGRAM), *map(str, words)]
    if ranks:
        command = [str(SOURCE / "deploy" / "mpi" / "launch.sh"), str(ranks), *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def expect(condition, what):
    if not condition:
        sys.exit(f"system_test.py: {what}")


def ask():
    """A question about a film is answered alone and on 2 and 4 ranks, with the same tokens; --json reports what was used."""
    words = ("ask", "--json", "--video", SAMPLES / "film-20s.mp4", "When does the green circle appear?")
    said = []
    for ranks in (0, 2, 4):
        result = run(*words, ranks=ranks)
        expect(result.returncode == 0, f"{ranks} ranks: exit code {result.returncode}: {result.stderr}")
        answer = json.loads(result.stdout)
        expect({"encode_s", "prefill_s", "film_decode_s", "film_wait_s", "film_cpu_s", "media", "usage", "system_fingerprint"} <= answer.keys(), f"fields are missing: {sorted(answer)}")
        expect(answer["media"][0]["frames_used"] == 40, f"frames used: {answer['media']}")
        said.append((answer["answer"], answer["token_ids"], [t["logprob"] for t in answer["choices"][0]["logprobs"]["content"]], answer["system_fingerprint"]))
    expect(said[0][0] == "The green circle appears at 13.6 seconds.", f"the answer: {said[0][0]}")
    expect(said[0] == said[1] == said[2], f"different answers: {said}")


def tensor_parallel():
    """tp 2 x ring 2 gives the tokens of one rank."""
    words = ("ask", "--json", "--image", SAMPLES / "picture-2.png", "Describe the picture.")
    one, four = run(*words), run(*words, "--tp", "2", ranks=4)
    expect(one.returncode == 0 and four.returncode == 0, one.stderr + four.stderr)
    a, b = json.loads(one.stdout), json.loads(four.stdout)
    expect(a["token_ids"] == b["token_ids"] and a["choices"][0]["logprobs"] == b["choices"][0]["logprobs"], "different tokens")


def pipeline():
    """Layers cut in 2 stages give the tokens of one rank: alone, with tp 2, and with a context that spans a ring of 2 in each stage."""
    words = ("ask", "--json", "--video", SAMPLES / "film-20s.mp4", "When does the green circle appear?")
    said = []
    for ranks, more in ((0, ()), (2, ("--pp", "2")), (4, ("--pp", "2", "--tp", "2")), (4, ("--pp", "2", "--span", "2", "--chunk", "100"))):
        result = run(*words, *more, ranks=ranks)
        expect(result.returncode == 0, f"{more}: exit code {result.returncode}: {result.stderr}")
        answer = json.loads(result.stdout)
        said.append((answer["token_ids"], [t["logprob"] for t in answer["choices"][0]["logprobs"]["content"]]))
        expect(not more or "pp 2 x" in answer["engine"], f"{more}: the engine: {answer['engine']}")
    expect(all(other == said[0] for other in said), f"different answers: {said}")


def growing():
    """A context that outgrows the pages of one rank, and of two, while it is answered: over 2 and 4 ranks, by both transports, and in 2 stages
    with their experts cut in two, the tokens of one process; metrics tell the growths and the pages that moved."""
    page = 2 * 2 * 32 * 256 * 2 * 6  # bytes: K and V of 2 heads of 32 for 256 tokens in bf16, 6 layers
    with tempfile.TemporaryDirectory() as folder:
        folder, said = pathlib.Path(folder), []
        body = {"model": "lantern-moe", "messages": [{"role": "user", "content": "red circle red square " * 50}], "max_tokens": 500, "temperature": 0,
                "ignore_eos": True, "logprobs": True}
        (folder / "in.jsonl").write_text(json.dumps({"custom_id": "long", "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n")
        for number, (ranks, growths, pages, more) in enumerate((
                (0, 0, 64, ()), (2, 1, 2, ("--ring-transport", "shared")), (2, 1, 2, ("--ring-transport", "messages")),
                (4, 2, 1, ("--ring-transport", "shared")), (4, 2, 1, ("--ring-transport", "messages")),
                (4, 1, 1, ("--pp", "2", "--ep", "1", "--ring-transport", "messages")), (4, 1, 1, ("--tp", "2", "--ep", "2", "--ring-transport", "shared")))):
            out, metrics = folder / f"{number}.jsonl", folder / f"{number}.metrics"
            result = run("batch", "--input", folder / "in.jsonl", "--output", out, "--sequences", "1", "--no-prefix-cache", "--chunk", "100",
                         "--kv-memory", pages * page, "--metrics-file", metrics, *more, ranks=ranks)
            expect(result.returncode == 0, f"{more}: exit code {result.returncode}: {result.stderr}")
            answer = json.loads(out.read_text())
            expect(answer["error"] is None, f"{more}: {answer['error']}")
            said.append(answer["response"]["body"]["choices"][0]["logprobs"]["content"])
            counted = {line.split()[0]: float(line.split()[1]) for line in metrics.read_text().splitlines() if not line.startswith("#")}
            expect(counted["zoetrope_span_growths_total"] == growths, f"{ranks} ranks {more}: {counted['zoetrope_span_growths_total']} growths, expected {growths}")
            expect(said[-1] == said[0] and len(said[-1]) == 500, f"{ranks} ranks {more}: different answers: {len(said[-1])} tokens")


def answered(folder, frames, ranks, more):
    """The usage, the tokens with the 20 likeliest at each and the log of one question about two films of at most so many frames each."""
    films = [{"type": "video", "video": str(SAMPLES / f"film-{length}.mp4")} for length in ("60s", "90s")]
    body = {"model": "lantern-moe", "messages": [{"role": "user", "content": [*films, {"type": "text", "text": "What appears first in the second film?"}]}],
            "max_tokens": 4, "temperature": 0, "logprobs": True, "top_logprobs": 20,
            "mm_processor_kwargs": {"fps": 100, "max_frames": frames, "min_pixels": 102400, "max_pixels": 147456, "total_pixels": 1 << 30}}
    out, began = folder / f"{frames}-{ranks}.jsonl", time.monotonic()
    (folder / "in.jsonl").write_text(json.dumps({"custom_id": "long", "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n")
    result = run("batch", "--verbose", "--input", folder / "in.jsonl", "--output", out, *more, ranks=ranks, timeout=280)
    expect(result.returncode == 0, f"{more}: exit code {result.returncode}: {result.stderr}")
    answer = json.loads(out.read_text())
    expect(answer["error"] is None, f"{more}: {answer['error']}")
    usage, tokens = answer["response"]["body"]["usage"], answer["response"]["body"]["choices"][0]["logprobs"]["content"]
    print(f"{' '.join(more) or 'one process'}: {usage['prompt_tokens']} prompt tokens, {len(tokens)} drawn in {time.monotonic() - began:.1f} s", flush=True)
    return usage, tokens, result.stderr


def long_context():
    """A context of 65,536 tokens or more, spread over 2 ranks in shared memory, and one of 15,000 or more over a ring of 2 in each of 2
    stages, by messages: the tokens of one process, with the same 20 likeliest at each and their log-probabilities equal bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        for frames, least, ranks, more in ((500, 65536, 2, ("--span", "2", "--ring-transport", "shared")),
                                           (120, 15000, 4, ("--pp", "2", "--span", "2", "--ring-transport", "messages"))):
            usage, tokens, _ = answered(pathlib.Path(folder), frames, 0, ())
            expect(usage["prompt_tokens"] >= least and usage["prompt_tokens_details"]["video_tokens"] >= 0.9 * usage["prompt_tokens"], f"the prompt: {usage}")
            expect(len(tokens) == 4 and all(len(token["top_logprobs"]) == 20 for token in tokens), f"tokens: {tokens}")
            spread = answered(pathlib.Path(folder), frames, ranks, more)
            expect(spread[:2] == (usage, tokens), f"{more}: different answers: {tokens} {spread[:2]}")
            expect(f"ring_transport={more[-1]} " in spread[2] and f"members={more[more.index('--span') + 1]} " in spread[2], f"{more}: {spread[2]}")


def bench_ranks():
    """The ring and the fabric are measured over 2 and 4 ranks; bytes equal the closed forms; alone they are refused."""
    for ranks in (2, 4):
        result = run("bench", "ring", "--quick", "--json", "--threads", "1", ranks=ranks)
        expect(result.returncode == 0, f"bench ring on {ranks} ranks: {result.stderr}")
        measured = json.loads(result.stdout)
        ways = measured["contexts"][0]["ways"]
        expect(len(ways) == 6 and all(way["seconds"] > 0 for way in ways), f"ways: {ways}")
        expect(all(way["bytes"] == way["closed_form_bytes"] for way in ways), f"bytes: {ways}")
        expect(all(way["work_max_over_mean"] < 1.1 for way in ways), f"work: {ways}")
        expect(measured["steps"] and all(step["regret"] >= 0 for step in measured["steps"]), f"steps: {measured['steps']}")
        result = run("bench", "fabric", "--quick", "--json", ranks=ranks)
        expect(result.returncode == 0, f"bench fabric on {ranks} ranks: {result.stderr}")
        rows = json.loads(result.stdout)
        expect(rows and all(row["sent"] == row["closed_form"] and row["seconds"] > 0 for row in rows), f"rows: {rows}")
    for what in ("ring", "fabric"):
        alone = run("bench", what, "--quick")
        expect(alone.returncode == 1 and "mpirun" in alone.stderr, f"bench {what} alone: {alone.returncode} {alone.stderr}")


def samples():
    """All sample questions: in fp32 the reference's float32 token ids, in bf16 at least 95 % of its answers."""
    expected = json.loads((SAMPLES / "answers.json").read_text())
    for precision, kind, least in (("fp32", "float32", 1.0), ("bf16", "bfloat16", 0.95)):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "answers.jsonl"
            result = run("batch", "--precision", precision, "--input", SAMPLES / "questions.jsonl", "--output", out, ranks=2, timeout=280)
            expect(result.returncode == 0, result.stderr)
            records = [json.loads(line) for line in out.read_text().splitlines()]
        said = {r["custom_id"]: r["response"]["body"]["choices"][0]["message"]["content"] for r in records if r["error"] is None}
        equal = sum(said.get(name) == row[kind]["text"] for name, row in expected.items())
        print(f"{precision}: {equal} of {len(expected)} answers are the reference's {kind} answers")
        expect(len(records) == len(expected) and equal >= least * len(expected), f"{precision}: only {equal} of {len(expected)}")


def processes_of(folder):
    """Processes of the program that answer a batch in `folder`: (ranks by their number, guardians)."""
    ranks, guardians, parents = {}, [], {}
    listing = subprocess.run(["pgrep", "-f", f"{PROGRAM} batch --input {folder}/"], capture_output=True, text=True).stdout.split()
    for pid in map(int, listing):
        try:
            if os.readlink(f"/proc/{pid}/exe") == str(PROGRAM.resolve()):  # else the launcher, whose words hold the same
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                rank = next(int(word.split(b"=")[1]) for word in environment if word.startswith(b"OMPI_COMM_WORLD_RANK="))
                parents[pid] = rank, int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), pathlib.Path(f"/proc/{pid}/comm").read_text()
        except (OSError, StopIteration):
            pass  # it has ended meanwhile, or has not quite begun
    for pid, (rank, parent, name) in parents.items():
        if parent in parents or name.strip() == "zoetrope-guard":
            guardians.append(pid)
        else:
            ranks[rank] = pid
    return ranks, guardians


def phase_names():
    """Of the phases of a rank, in the order of their numbers."""
    source = (SOURCE / "monitoring" / "trace.cc").read_text()
    return re.findall(r'"([^"]+)"', source[source.index("kNames{"):source.index("};", source.index("kNames{"))])


def phase_of(pid, names):
    """What a rank says that it does, read from the note that it shares with its guardian."""
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(descriptor).startswith("/memfd:zoetrope-phase"):
                return names[struct.unpack("<I", descriptor.read_bytes()[:4])[0]]
        except OSError:
            pass
    return None


def stopped(pid):
    """True when the process stands still for the signal; False when it is not there any more."""
    try:
        os.kill(pid, signal.SIGSTOP)
        while True:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state in "TZX":
                return state == "T"
    except (ProcessLookupError, FileNotFoundError):
        return False


def guarded(pid):
    """True when the rank's guardian is there: one that is killed before, in its first milliseconds, has nobody to tell."""
    return subprocess.run(["pgrep", "-x", "-P", str(pid), "zoetrope-guard"], stdout=subprocess.DEVNULL).returncode == 0


class Batch:
    """The sample questions as a batch over some ranks (0: without a launcher), started in `folder`."""

    def __init__(self, folder, *more, ranks=2):
        self.ranks = ranks
        self.lines = (SAMPLES / "questions.jsonl").read_text().replace('{"url": "', f'{{"url": "{SAMPLES}/')
        self.out = folder / "out.jsonl"
        (folder / "in.jsonl").write_text(self.lines)
        self.words = ["batch", "--input", folder / "in.jsonl", "--output", self.out, "--sequences", "2", *more]
        self.folder = folder
        self.segments = set()
        self.start()

    def start(self):
        launcher = [str(SOURCE / "deploy" / "mpi" / "launch.sh"), str(self.ranks)] if self.ranks else []
        command = [*launcher, str(PROGRAM), *map(str, self.words)]
        unignored = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test that runs in the background may ignore it
        self.job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=unignored)

    def answers(self):
        return self.out.read_text().count("\n") if self.out.exists() else 0

    def wait_for_ranks(self):
        deadline = time.monotonic() + 60
        while len(processes_of(self.folder)[0]) < 2:
            expect(time.monotonic() < deadline and self.job.poll() is None, f"no 2 ranks in {self.folder}")
            time.sleep(0.01)
        return processes_of(self.folder)[0]

    def hit(self, sent, answers):
        """Sends a signal to the later rank once so many lines are answered; returns what the job said and the seconds until it ended."""
        deadline = time.monotonic() + 60
        while self.answers() < answers and time.monotonic() < deadline:
            time.sleep(0.05)
        self.look_at_segments()
        os.kill(self.wait_for_ranks()[1], sent)
        return self.end()

    def hit_in(self, rank, phase, sent):
        """Kills a rank in a phase, or leaves it stopped there: it is stopped again and again until it stands in it. A batch that is
        answered before is begun anew: some phases are short and rare. Returns as hit() does."""
        names = phase_names()
        pid, deadline = self.wait_for_ranks()[rank], time.monotonic() + 60
        while time.monotonic() < deadline:
            if not stopped(pid):
                said, _ = self.end()
                expect(self.job.returncode == 0, f"rank {rank} ended before phase '{phase}': {said}")
                self.out.unlink()
                self.start()
                pid = self.wait_for_ranks()[rank]
                continue
            if phase_of(pid, names) == phase and guarded(pid):
                self.look_at_segments()
                os.kill(pid, sent)
                return self.end()
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.005)  # mostly running: one that is seen standing still for 4 s is ended
        expect(False, f"rank {rank} was never seen in phase '{phase}'")

    def look_at_segments(self):
        """Files through which the ranks talk: they must go with the job."""
        for pid in processes_of(self.folder)[0].values():
            self.segments |= set(re.findall(r"/\S*vader_segment\S*", pathlib.Path(f"/proc/{pid}/maps").read_text()))

    def end(self):
        self.hit_at = time.monotonic()
        _, said = self.job.communicate(timeout=30)
        return said, time.monotonic() - self.hit_at

    def expect_nothing_left(self):
        """Within 10 seconds of the hit: no process (one that nobody waits for is none), no segment, no folder of the launcher."""
        while True:
            ranks, guardians = processes_of(self.folder)
            left = [*ranks.values(), *guardians, *filter(os.path.exists, self.segments), *glob.glob(f"{tempfile.gettempdir()}/ompi.*/pid.{self.job.pid}")]
            if not left:
                return
            expect(time.monotonic() < self.hit_at + 10, f"left behind: {left}")
            time.sleep(0.05)


def told_once(said, what):
    """The program's one line about the failure."""
    told = [line for line in said.splitlines() if line.startswith("zoetrope:")]
    expect(len(told) == 1, f"{what}: expected one message, found {told} in: {said}")
    return told[0]


def killed_batch():
    """A batch whose rank is killed ends within 10 seconds, keeps what was answered, and a rerun completes it."""
    with tempfile.TemporaryDirectory() as folder:
        batch = Batch(pathlib.Path(folder))
        said, took = batch.hit(signal.SIGKILL, 4)
        expect(took < 10 and batch.job.returncode != 0, f"the job ended after {took:.1f} s with {batch.job.returncode}")
        expect(f"rank 1 on host {socket.gethostname()}: found it killed" in told_once(said, "killed"), f"said: {said}")
        expect(said.count(f"answered lines are kept in {batch.out}") == 1, f"said: {said}")
        batch.expect_nothing_left()
        expect(batch.answers() >= 4, "answers were lost")
        result = run(*batch.words, ranks=2, timeout=240)
        expect(result.returncode == 0, result.stderr)
        records = [json.loads(line) for line in batch.out.read_text().splitlines()]
        expect(all(r["error"] is None for r in records), f"lines failed: {[r['error'] for r in records if r['error']][:1]}")
        ids = [r["custom_id"] for r in records]
        expect(len(ids) == len(set(ids)) == batch.lines.count("\n"), f"{len(ids)} records, {len(set(ids))} different, for {batch.lines.count(chr(10))} lines")
        expect("kept from an earlier run" in result.stderr, result.stderr)
    for ranks in (0, 2):
        interrupted(ranks)


def interrupted(ranks):
    """Ctrl-C says once that nothing is lost, and nothing is left behind."""
    with tempfile.TemporaryDirectory() as folder:
        batch = Batch(pathlib.Path(folder), "--no-prefix-cache", ranks=ranks)  # not over before it is seen
        deadline = time.monotonic() + 60
        while batch.answers() < 4 and batch.job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        expect(batch.answers() >= 4 and batch.job.poll() is None, f"{ranks} ranks: over before it was interrupted, with {batch.answers()} answers")
        batch.look_at_segments()
        os.killpg(batch.job.pid, signal.SIGINT)
        said, took = batch.end()
        expect(took < 10 and batch.job.returncode != 0, f"{ranks} ranks: the job ended after {took:.1f} s with {batch.job.returncode}")
        expect(said.count(f"zoetrope batch: stopped; answered lines are kept in {batch.out}") == 1 and "zoetrope: " not in said, f"{ranks} ranks: {said}")
        batch.expect_nothing_left()  # without a launcher the job is the one process there was
        expect(batch.answers() >= 4, f"{ranks} ranks: answers were lost")


def killed_in_phases():
    """A rank killed in any phase is named with its host, phase and step; the others end within 10 seconds and nothing is left behind."""
    spanned, staged = ("--span", "2", "--ring-transport", "messages"), ("--pp", "2")
    cases = [((), 1, "start of MPI"), ((), 0, "load"), ((), 1, "load"), ((), 0, "decode film"), ((), 1, "encode"), ((), 1, "exchange features"), (spanned, 1, "ring"),
             ((), 1, "dispatch"), ((), 0, "experts"), ((), 1, "combine"), (staged, 1, "hand-over"), (staged, 0, "attention"), ((), 1, "idle")]
    for more, rank, phase in cases:
        with tempfile.TemporaryDirectory() as folder:
            batch = Batch(pathlib.Path(folder), *more)
            said, took = batch.hit_in(rank, phase, signal.SIGKILL)
            expect(took < 10 and batch.job.returncode != 0, f"{phase}: the job ended after {took:.1f} s with {batch.job.returncode}")
            told = told_once(said, phase)
            named = re.match(rf"zoetrope: rank {rank} on host {re.escape(socket.gethostname())}: found it killed (?:by signal 9|or crashed) in phase '{phase}'"
                             r"(, layer \d+)?, (step \d+|before the first step), expected ", told)
            early = phase in ("start of MPI", "load")
            expect(named and (phase == "idle" or early == (named[2] == "before the first step")), f"{phase}: {told}")
            batch.expect_nothing_left()
            print(f"{took:.1f} s after rank {rank} was killed: {told[:120]}", flush=True)


def killed_launcher():
    """When the launcher itself is killed, its ranks end and take away what it would have: processes, shared memory, its folder."""
    with tempfile.TemporaryDirectory() as folder:
        batch = Batch(pathlib.Path(folder), "--no-prefix-cache")  # so that it lasts longer than the look below
        while batch.answers() < 2:
            time.sleep(0.05)
        time.sleep(1)  # a look of the guardians
        batch.look_at_segments()
        expect(batch.segments and glob.glob(f"{tempfile.gettempdir()}/ompi.*/pid.{batch.job.pid}"), "what the launcher leaves is not where it was looked for")
        os.kill(batch.job.pid, signal.SIGKILL)
        said, took = batch.end()
        expect(took < 10, f"the ranks ended after {took:.1f} s")
        expect(f"the launcher (process {batch.job.pid}) on host {socket.gethostname()}: found it gone" in told_once(said, "launcher"), f"said: {said}")
        batch.expect_nothing_left()


def stopped_rank():
    """A rank that is stopped (SIGSTOP) is named, and all end within 10 seconds; nothing waits for the exchange's deadline."""
    for more, phase in (((), "start of MPI"), ((), "load"), (("--pp", "2"), "hand-over"), (("--span", "2"), None)):
        with tempfile.TemporaryDirectory() as folder:
            batch = Batch(pathlib.Path(folder), *more)
            said, took = batch.hit_in(1, phase, signal.SIGSTOP) if phase else batch.hit(signal.SIGSTOP, 2)
            expect(took < 10 and batch.job.returncode == 1, f"the job ended after {took:.1f} s with {batch.job.returncode}: {said}")
            told = told_once(said, "stopped")
            expect(re.match(rf"zoetrope: rank 1 on host {re.escape(socket.gethostname())}: found it stopped by a signal for 4 s in phase '{phase or '[a-z -]+'}'"
                            r"(, layer \d+)?, (step \d+|before the first step), expected ", told), told)
            batch.expect_nothing_left()
            print(f"{took:.1f} s after rank 1 was stopped: {told[:120]}", flush=True)


def mistakes():
    """Every mistake: exit code, one line on standard error with the value, and nothing that looks like a crash."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "empty").mkdir()
        (folder / "text.mp4").write_text("this is no film")
        (folder / "zero.mp4").write_bytes(b"")
        (folder / "same.jsonl").write_text('{"custom_id": "a"}')

        def pointed(name):
            """The bundled checkpoint as a clone without Git LFS has it: one file is a pointer."""
            copy = folder / f"pointer-{name}"
            shutil.copytree(SOURCE / "models" / "lantern-moe", copy)
            (copy / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
            return copy

        cases = [
            (2, ["ask", "--vidoe", "x", "?"], "--video"),
            (2, ["tell"], "expected"),
            (2, ["ask", "?", "--threads", "none"], "threads"),
            (2, ["ask", "?", "--body", "sse9"], "sse9"),
            (2, ["ask", "?", "--kv-memory", "-5"], "-5"),
            (2, ["ask", "?", "--kv-memory", "0"], "--kv-memory"),
            (2, ["ask", "?", "--precision", "fp16"], "found 'fp16', expected one of bf16|fp32"),
            (2, ["ask", "?", "--ring-transport", "1"], "expected one of auto|messages|shared"),
            (1, ["ask", "--model", folder / "gone", "?"], "gone"),
            (1, ["ask", "--model", folder / "empty", "?"], "config.json"),
            (1, ["ask", "--video", folder / "gone.mp4", "?"], "gone.mp4"),
            (1, ["ask", "--video", folder / "text.mp4", "?"], "text.mp4"),
            (1, ["ask", "--video", folder / "zero.mp4", "?"], "zero.mp4"),
            (1, ["ask", "--image", SAMPLES / "film-20s.mp4", "?"], "film-20s.mp4"),
            (1, ["ask", "--video", "http://example.com/a.mp4", "?"], "http"),
            (1, ["ask", "--video", SAMPLES / "film-20s.mp4", "--context", "100", "?"], "100"),
            (1, ["ask", "--max-tokens", "1000000000", "?"], "1000000000"),
            (2, ["ask", "--max-tokens", "99999999999999999999", "?"], "found '99999999999999999999', expected a whole number within 64 bits"),
            (2, ["ask", "--max-tokens", "9223372036854775807", "?"], "--max-tokens: found the number 9223372036854775807"),
            (2, ["ask", "--temperature", "nan", "?"], "--temperature: found nan"),
            (2, ["ask", "--video", SAMPLES / "film-20s.mp4", "--num-frames", "-1", "?"], "--num-frames: found the number -1"),
            (2, ["ask", "--ring", "3", "?"], "--ring: found 3, expected a power of two"),
            (2, ["ask", "--span", "6", "?"], "--span: found 6, expected a power of two (a context spans 1, 2, 4 ... members); use --span 4 or --span 8"),
            (2, ["ask", "--tp", "3", "?"], "--tp: found 3, expected a power of two"),
            (1, ["ask", "--span", "2", "?"], "--span: found 2 over a ring of 1 = 1 ranks / (pp 1 x tp 1)"),
            (1, ["ask", "--context", "10000000", "?"], "--context: found 10000000 tokens, expected at most"),
            (1, ["ask", "--context", "60000", "--kv-memory", "16MiB", "?"], "--context: found 60000 tokens = 235 pages of 256, expected at most"),
            (1, ["ask", "--kv-memory", "1PiB", "?"], f"--kv-memory: found {1 << 50} bytes for each of 1 rank on host {socket.gethostname()}, expected at most"),
            (1, ["ask", "--kv-memory", "10MiB", "?"], "--context shortens"),
            (1, ["ask", "--kv-memory", "1000", "?"], "KV memory: found 1000 bytes, expected at least"),
            (1, ["ask", "--ep", "3", "?"], "--ep 3 of 1 ranks"),
            (1, ["ask", "--model", folder / "new\nline", "?"], "new\\x0aline"),
            (1, ["ask", "--video", folder / "new\nline.mp4", "?"], "new\\x0aline.mp4"),
            (1, ["batch", "--input", folder / "new\nline", "--output", folder / "o"], "new\\x0aline"),
            (1, ["ask", "--model", pointed("config.json"), "?"], "config.json: found a Git LFS pointer"),
            (1, ["ask", "--model", pointed("tokenizer.json"), "?"], "tokenizer.json: found a Git LFS pointer instead of the file, expected JSON text; fetch the file itself with `git lfs pull`"),
            (1, ["ask", "--model", pointed("model.safetensors"), "?"], "model.safetensors: found a Git LFS pointer"),
            (1, ["ask", "--tp", "2", "?"], "1 were launched"),
            (2, ["ask", "--expert-placement", "auto", "?"], "--expert-load"),
            (1, ["ask", "--expert-placement", folder / "gone.json", "?"], "gone.json"),
            (1, ["ask", "--expert-placement", folder / "same.jsonl", "?"], "custom_id"),
            (1, ["ask", "--metrics-file", folder / "no" / "m", "?"], "no/m"),
            (1, ["ask", "--trace", folder / "no" / "t", "?"], "no/t"),
            (1, ["batch", "--input", folder / "gone.jsonl", "--output", folder / "o"], "gone.jsonl"),
            (1, ["batch", "--input", SAMPLES / "questions.jsonl", "--output", folder / "no" / "o"], "no/o"),
            (1, ["inspect", folder / "empty"], "config.json"),
            (1, ["batch", "--input", folder / "same.jsonl", "--output", folder / "same.jsonl"], "which is the input"),
        ]
        for code, words, named in cases:
            result = run(*words)
            text = result.stderr if words[0] != "inspect" else result.stdout + result.stderr
            expect(result.returncode == code, f"{words}: exit code {result.returncode}, expected {code}: {text}")
            expect(named in text, f"{words}: '{named}' is not in: {text}")
            expect(words[0] == "inspect" or len(text.strip().splitlines()) == 1, f"{words}: more than one line: {text}")
        expect(not (folder / "o").exists(), "a batch without an input left an output behind")
        expect((folder / "same.jsonl").read_text() == '{"custom_id": "a"}', "an input that was named as output was written to")
        with open("/dev/full", "w") as full:
            result = subprocess.run([str(PROGRAM), "version"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        expect(result.returncode == 1 and "standard output" in result.stderr, f"a full disk: {result.returncode}: {result.stderr}")


def mistakes_of_ranks():
    """Under mpirun the message of a mistake appears once, all ranks end within 10 seconds, and no weight is read before."""
    cases = [
        # each axis of a layout
        (2, 4, ["--ring", "3"], "--ring: found 3, expected a power of two"),
        (2, 4, ["--tp", "3"], "--tp: found 3, expected a power of two"),
        (2, 4, ["--span", "3"], "--span: found 3, expected a power of two"),
        (1, 4, ["--ring", "2"], "--ring 2 x --tp 1 = 2 ranks, but 4 were launched"),
        (1, 4, ["--tp", "8"], "--ring 1 x --tp 8 = 8 ranks, but 4 were launched"),
        (1, 4, ["--pp", "3"], "--pp 3 x --ring 1 x --tp 1 = 3 ranks, but 4 were launched"),
        (1, 7, ["--pp", "7"], "6 layers for 7 stages"),
        (1, 8, ["--tp", "8"], "tensor parallelism over 8 ranks"),
        (1, 4, ["--span", "8"], "--span: found 8 over a ring of 4 = 4 ranks / (pp 1 x tp 1)"),
        (1, 4, ["--ep", "3"], "--ep 3 of 4 ranks: found 4 / 3 leaves 1"),
        # each pair of axes
        (1, 4, ["--pp", "2", "--tp", "4"], "--pp 2 x --ring 1 x --tp 4 = 8 ranks, but 4 were launched"),
        (1, 4, ["--pp", "2", "--ring", "4"], "--pp 2 x --ring 4 x --tp 1 = 8 ranks, but 4 were launched"),
        (1, 4, ["--ring", "4", "--tp", "2"], "--ring 4 x --tp 2 = 8 ranks, but 4 were launched"),
        (1, 4, ["--pp", "4", "--span", "2"], "--span: found 2 over a ring of 1 = 4 ranks / (pp 4 x tp 1)"),
        (1, 4, ["--tp", "2", "--span", "4"], "--span: found 4 over a ring of 2 = 4 ranks / (pp 1 x tp 2)"),
        (1, 4, ["--ring", "4", "--ep", "1"], "--ep 1 of 4 ranks: found 4 / 1 = 4 ranks to cut an expert over"),
        (1, 4, ["--tp", "2", "--ep", "1"], "--ep 1 of 4 ranks: found 4 / 1 = 4 ranks to cut an expert over"),
        (1, 4, ["--pp", "2", "--ep", "4"], "--ep 4 of 2 ranks: found 4 groups"),
        (1, 4, ["--span", "4", "--ep", "3"], "--ep 3 of 4 ranks"),
        # memory
        (1, 4, ["--span", "4", "--context", "512"], "--span: found 4 members for a context of 512 tokens = 2 pages of 256"),
        (1, 2, ["--context", "60000", "--kv-memory", "16MiB"], "pages: 2 ring members x "),
        (1, 4, ["--kv-memory", "1TiB"], f"--kv-memory: found {1 << 40} bytes for each of 4 ranks on host {socket.gethostname()}"),
        # files
        (1, 4, ["--model", "/gone"], "/gone"),
        (1, 4, ["--video", "/gone.mp4"], "/gone.mp4"),
        (1, 4, ["--expert-placement", "/gone.json"], "/gone.json"),
        (2, 4, ["--vidoe", "x"], "--video"),
    ]
    for code, ranks, flags, named in cases:
        began = time.monotonic()
        result = run("ask", *flags, "?", ranks=ranks)
        took = time.monotonic() - began
        lines = [line for line in result.stderr.splitlines() if line.startswith("zoetrope:")]
        expect(result.returncode == code, f"{flags}: exit code {result.returncode}, expected {code}: {result.stderr}")
        expect(len(lines) == 1 and named in lines[0], f"{flags}: {lines}")
        expect(took < 10, f"{flags}: took {took:.1f} s")
    # Not of the flags' making: any number of ranks shares the sequences, and those that span members span two of three.
    three = run("ask", "--json", "--span", "2", "--max-tokens", "4", "Who are you?", ranks=3)
    one = run("ask", "--json", "--max-tokens", "4", "Who are you?")
    expect(three.returncode == 0 and json.loads(three.stdout)["token_ids"] == json.loads(one.stdout)["token_ids"], f"3 ranks: {three.stderr}")


def exchange():
    """Counted load of a run places the experts of the next; the bytes of an exchange are at most 1.05 times the least."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        words = ("ask", "--json", "--max-tokens", "12", "--image", SAMPLES / "picture-2.png", "Describe the picture.")
        first = run(*words, "--expert-load-out", folder / "load.json", "--metrics-file", folder / "metrics", "--trace", folder / "trace.json", ranks=2)
        expect(first.returncode == 0, first.stderr)
        placed = run(*words, "--expert-placement", "auto", "--expert-load", folder / "load.json", ranks=2)
        expect(placed.returncode == 0, placed.stderr)
        a, b = json.loads(first.stdout), json.loads(placed.stdout)
        expect(a["token_ids"] == b["token_ids"] and a["choices"][0]["logprobs"] == b["choices"][0]["logprobs"], "different tokens")
        load = json.loads((folder / "load.json").read_text())
        rows = sum(map(sum, load["layers"]))
        metrics = (folder / "metrics").read_text()
        counted = sum(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("zoetrope_expert_rows_total"))
        expect(rows == counted > 0, f"{rows} rows in the load, {counted} in the metrics")
        lanes = {event["tid"] for event in json.loads((folder / "trace.json").read_text())["traceEvents"] if event["ph"] == "X"}
        expect(lanes == {0, 1}, f"lanes of the trace: {lanes}")
    result = run("bench", "exchange", "--quick", "--json", ranks=2)
    expect(result.returncode == 0, result.stderr)
    cases = json.loads(result.stdout)["cases"]
    expect(len(cases) == 6, f"{len(cases)} cases")
    for case in cases:
        expect(case["bytes"] == case["bytes_closed_form"] <= 1.05 * case["bytes_least"] > 0, f"bytes: {case}")


globals()[sys.argv[3]]()
print(f"system_test.py: {sys.argv[3]} passed")
