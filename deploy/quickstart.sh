#!/usr/bin/env bash
# From nothing to answers: installs the packages, builds, and asks two ranks about the sample films and pictures.
# Network: apt only. RANKS=4 deploy/quickstart.sh takes four ranks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ranks=${RANKS:-2}

deploy/install-dependencies.sh
echo "quickstart: building into build/release"
cmake --preset release >/dev/null
cmake --build --preset release --target zoetrope -- --quiet

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
echo "quickstart: mpirun -n $ranks zoetrope batch --input models/samples/questions.jsonl"
deploy/mpi/launch.sh "$ranks" build/release/zoetrope batch --input models/samples/questions.jsonl --output "$out/answers.jsonl"
python3 deploy/demo/score.py models/samples/answers.json "$out/answers.jsonl"
echo
echo "Ask one yourself:"
echo "  build/release/zoetrope ask --video models/samples/film-20s.mp4 \"When does the green circle appear?\""
