#!/usr/bin/env bash
# Builds and runs all tests: unit, golden, system (mpirun with 2 and 4 ranks), then the unit tests under sanitizers.
#   deploy/test.sh            everything (what CI runs)
#   deploy/test.sh release    the release build only: the quick loop of a developer
# ZOETROPE_GOLDENS names a folder of golden files; left out, the project's own smaller set is used.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-all}" in
  all | release) ;;
  *) echo "test.sh: unknown argument '$1': expected nothing or 'release'" >&2; exit 2 ;;
esac

deploy/install-dependencies.sh
run_preset() {
  local preset=$1
  shift
  echo "== $preset: build"
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" -- --quiet
  echo "== $preset: test"
  ctest --preset "$preset" -j 2 --output-on-failure "$@"
}
run_preset release
if [[ "${1:-all}" == "all" ]]; then
  run_preset asan -LE 'mpi|system|slow|golden'
  run_preset tsan -L threads
fi
echo "== golden files"
build/release/golden_test
