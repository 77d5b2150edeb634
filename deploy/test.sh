#!/usr/bin/env bash
# Builds and runs the tests.
#   deploy/test.sh              unit, golden and system tests (mpirun with 2 and 4 ranks) of the release build: what CI runs
#   deploy/test.sh sanitizers   the unit tests under address + undefined-behaviour sanitizers, the threads suites under the
#                               thread sanitizer
# ZOETROPE_GOLDENS names a folder of golden files for golden_test; left out, the project's own smaller set is used. The unit
# tests always read the project's own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-release}" in
  release | sanitizers) ;;
  *) echo "test.sh: unknown argument '$1': expected nothing or 'sanitizers'" >&2; exit 2 ;;
esac

deploy/install-dependencies.sh
# run_preset PRESET "TARGET..." CTEST-ARGUMENT...: builds those targets (none: everything), runs those tests.
run_preset() {
  local preset=$1 targets=$2
  shift 2
  echo "== $preset: build"
  cmake --preset "$preset" -DZOETROPE_TESTS=ON >/dev/null
  # shellcheck disable=SC2086  # one word a target
  cmake --build --preset "$preset" ${targets:+--target $targets} -- --quiet
  echo "== $preset: test"
  env -u ZOETROPE_GOLDENS ctest --preset "$preset" -j 2 --no-tests=error --output-on-failure "$@"
}
if [[ "${1:-release}" == "sanitizers" ]]; then
  run_preset asan "" -LE 'system|slow|golden'
  run_preset tsan "parallel_test decode_ahead_test engine_test" -L threads
  exit 0
fi
run_preset release ""
echo "== golden files of ${ZOETROPE_GOLDENS:-tests/data/goldens}"
build/release/golden_test
