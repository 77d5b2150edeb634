#!/usr/bin/env bash
# launch.sh RANKS PROGRAM [ARGUMENT...]: runs a program under mpirun with the settings of openmpi.conf beside this file.
# More ranks than cores are allowed; running as root (containers, CI) too.
set -euo pipefail
ranks=$1
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Read by programs built with the address sanitizer only. Open MPI unloads its modules before leaks are looked for; full
# stacks reach the library that loaded them.
export ASAN_OPTIONS=${ASAN_OPTIONS:-fast_unwind_on_malloc=0}
export LSAN_OPTIONS=${LSAN_OPTIONS:-suppressions=$here/openmpi-lsan.supp:print_suppressions=0}
exec mpirun --tune "$here/openmpi.conf" --oversubscribe --bind-to none -n "$ranks" "$@"
