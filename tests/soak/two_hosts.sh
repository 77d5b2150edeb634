#!/usr/bin/env bash
# two_hosts.sh [--delay MS] PROGRAM [FILM [QUESTION]]: two hosts on one machine, each a network namespace with a hostname of its own, joined by a
# link of 1 Gbit/s. A rank on each. Passes when both together answer with the tokens of one process, over messages (chosen by themselves),
# when shared memory is refused, when, where the span is theirs to choose, a prompt of sample length (no FILM named) stays on one of them with
# --delay and goes to both without, and with --delay and two ranks on each host to the two of one, and when the ring's cost model chooses well for
# steps of 1 to 256 tokens (`bench ring --quick`, the quickest of three turns; at most 10 % slower than the other pass) and chooses both passes.
# With --delay every packet arrives so many milliseconds later (slow_link.py); else the link has no delay.
# Needs root, iproute2 and Open MPI, with --delay /dev/net/tun. All names and addresses are those of the namespaces it makes; it removes them
# whatever happens.
set -euo pipefail
delay=
if [[ "${1:-}" == "--delay" ]]; then
  delay=$2
  shift 2
fi
program=$(realpath "$1")
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
film=$(realpath "${2:-$source/models/samples/film-120s.mp4}")
question=${3:-What appears first?}
one=ztone$$ two=zttwo$$
work=$(mktemp -d)

wire=
cleanup() {
  [[ -z "$wire" ]] || kill "$wire" 2>/dev/null || true
  for host in "$one" "$two"; do
    for pid in $(ip netns pids "$host" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
    ip netns del "$host" 2>/dev/null || true  # its end of the link, and so the link, goes with it
    rm -rf "/etc/netns/$host"
  done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

number=0
for host in "$one" "$two"; do
  number=$((number + 1))
  ip netns add "$host"
  ip -n "$host" link set lo up
  mkdir -p "/etc/netns/$host"
  printf '127.0.0.1 localhost\n10.77.0.1 %s\n10.77.0.2 %s\n' "$one" "$two" >"/etc/netns/$host/hosts"
done
if [[ -n "$delay" ]]; then
  "$source/tests/soak/slow_link.py" "zta$$" "ztb$$" 1e9 "$delay" >"$work/wire" &
  wire=$!
  for _ in $(seq 50); do
    grep -q ready "$work/wire" && break
    sleep 0.1
  done
  ip link set "zta$$" netns "$one" name link0
  ip link set "ztb$$" netns "$two" name link0
else
  ip link add link0 netns "$one" type veth peer name link0 netns "$two"
fi
number=0
for host in "$one" "$two"; do
  number=$((number + 1))
  ip -n "$host" addr add "10.77.0.$number/24" dev link0
  ip -n "$host" link set link0 up
  if [[ -n "$delay" ]]; then
    ip -n "$host" link set link0 mtu 64000
  else
    tc -n "$host" qdisc add dev link0 root tbf rate 1gbit burst 256kb latency 20ms
  fi
done

# mpirun reaches the other host by this in place of ssh.
cat >"$work/agent" <<'AGENT'
#!/bin/bash
host=$1
shift
exec ip netns exec "$host" unshare -u sh -c "hostname $host; $*"
AGENT
chmod +x "$work/agent"

# two_hosts SECONDS ARGUMENT...: the program, $per_host ranks on each host; at most so many seconds.
two_hosts() {
  local seconds=$1
  shift
  timeout -k 5 "$seconds" ip netns exec "$one" unshare -u sh -c 'hostname "$0"; exec "$@"' "$one" \
    "$source/deploy/mpi/launch.sh" $((2 * per_host)) --host "$one:$per_host,$two:$per_host" --mca plm_rsh_agent "$work/agent" \
    --mca oob_tcp_if_include link0 --mca btl_tcp_if_include link0 "$program" "$@"
}

per_host=1
words=(ask --json --verbose --video "$film" --max-tokens 16 "$question")
timeout 120 "$program" "${words[@]}" >"$work/alone.json" 2>"$work/alone.log"
two_hosts 240 "${words[@]}" --span 2 >"$work/two.json" 2>"$work/two.log" || { cat "$work/two.log" >&2; exit 1; }
two_hosts 240 "${words[@]}" >"$work/free.json" 2>"$work/free.log" || { cat "$work/free.log" >&2; exit 1; }
per_host=2
two_hosts 240 "${words[@]}" --threads 1 >"$work/four.json" 2>"$work/four.log" || { cat "$work/four.log" >&2; exit 1; }
per_host=1
if two_hosts 60 "${words[@]}" --span 2 --ring-transport shared >"$work/shared.json" 2>"$work/shared.log"; then
  echo "two_hosts.sh: memory was shared between hosts" >&2
  exit 1
fi
for turn in 1 2 3; do
  two_hosts 240 bench ring --quick --json --threads 1 --ring-transport messages >"$work/ring$turn.json" 2>"$work/ring.log" || { cat "$work/ring.log" >&2; exit 1; }
done
two_hosts 240 bench fabric --quick --json >"$work/fabric.json" 2>"$work/fabric.log" || { cat "$work/fabric.log" >&2; exit 1; }

python3 - "$work" "${delay:-0}" "${2:+own}" <<'CHECK'
import json, pathlib, sys
work, delay, own_film = pathlib.Path(sys.argv[1]), float(sys.argv[2]) / 1000, bool(sys.argv[3])
read = lambda name: (work / name).read_text()
alone, two, *turns = (json.loads(read(name)) for name in ("alone.json", "two.json", "ring1.json", "ring2.json", "ring3.json"))
drawn = lambda answer: (answer["token_ids"], answer["choices"][0]["logprobs"])
def expect(condition, what):
    if not condition:
        sys.exit(f"two_hosts.sh: {what}")
expect(drawn(alone) == drawn(two), f"two hosts draw other tokens: {drawn(alone)} {drawn(two)}")
expect("ring_transport=messages" in read("two.log"), f"expected messages between hosts: {read('two.log')}")
expect("several hosts" in read("shared.log"), f"expected shared memory to be refused: {read('shared.log')}")
print(f"{alone['usage']['prompt_tokens']} prompt tokens, {len(alone['token_ids'])} drawn: the same tokens and log-probabilities on two hosts, by messages")
free, log = json.loads(read("free.json")), read("free.log")
four, log_of_four = json.loads(read("four.json")), read("four.log")
number = lambda name, log=log: int(log.split(name + "=")[1].split()[0])
expect(drawn(alone) == drawn(free), f"two hosts draw other tokens where the span is theirs to choose: {drawn(free)}")
print(f"without --span: {number('members')} member; a message costs as much as attending to {number('exchange_tokens')} tokens")
wanted = 1 if delay else 2
expect(own_film or number("members") == wanted,
       f"a prompt of {alone['usage']['prompt_tokens']} tokens, a message of {number('exchange_tokens')}: found {number('members')} members, expected {wanted}")
expect(drawn(alone) == drawn(four), f"two ranks on each host draw other tokens: {drawn(four)}")
print(f"two ranks on each host: {number('members', log_of_four)} members; a message costs as much as {number(' exchange_tokens', log_of_four)} tokens, within a host {number('host_exchange_tokens', log_of_four)}")
expect(own_film or not delay or number("members", log_of_four) == 2, "with a slow link the prompt is expected on the two ranks of a host")
wire = [row for row in json.loads(read("fabric.json")) if row["operation"].startswith("latency")]
print("the link: " + ", ".join(f"{row['bytes']} bytes in {1e3 * row['seconds']:.2f} ms" for row in (wire[0], wire[-1])))
expect(wire[0]["seconds"] >= delay, "the link is faster than it was made")
both, worst = set(), 0.0
for steps in zip(*(turn["steps"] for turn in turns)):  # one number of tokens in every turn
    seconds = {way: min(step[f"{way}_seconds"] for step in steps) for way in ("pages", "queries")}
    chosen = {step["chosen"] for step in steps}
    regret = max(seconds[way] for way in chosen) / min(seconds.values()) - 1
    both, worst = both | chosen, max(worst, regret)
    print(f"a step of {steps[0]['tokens']} tokens at the end of 4,096: pages {1e3 * seconds['pages']:.1f} ms, queries {1e3 * seconds['queries']:.1f} ms; "
          f"chosen: {' and '.join(sorted(chosen))}, regret {regret:.1%}")
expect(both == {"pages", "queries"}, "the cost model takes one pass whatever the step")
expect(worst <= 0.1, "the cost model's choice is more than 10 % slower than the other pass; on a busy machine, try again")
CHECK
