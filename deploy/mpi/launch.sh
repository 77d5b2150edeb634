#!/usr/bin/env bash
# launch.sh RANKS PROGRAM [ARGUMENT...]: runs a program under mpirun with the settings of openmpi.conf beside this file.
# More ranks than cores are allowed; running as root (containers, CI) too.
set -euo pipefail
ranks=$1
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# A link between hosts that is cut ends the job after some 5 s; by default after 300 s.
export OMPI_MCA_oob_tcp_keepalive_time=${OMPI_MCA_oob_tcp_keepalive_time:-2}
export OMPI_MCA_oob_tcp_keepalive_intvl=${OMPI_MCA_oob_tcp_keepalive_intvl:-1}
export OMPI_MCA_oob_tcp_keepalive_probes=${OMPI_MCA_oob_tcp_keepalive_probes:-3}
# Read by programs built with the address sanitizer only. Open MPI unloads its modules before leaks are looked for; full
# stacks reach the library that loaded them.
export ASAN_OPTIONS=${ASAN_OPTIONS:-fast_unwind_on_malloc=0}
export LSAN_OPTIONS=${LSAN_OPTIONS:-suppressions=$here/openmpi-lsan.supp:print_suppressions=0}
exec mpirun --tune "$here/openmpi.conf" --oversubscribe --bind-to none -n "$ranks" "$@"
