#!/usr/bin/env bash
# Installs what Zoetrope needs on Debian 12, from Debian packages only. Safe to run again: what is there is left alone.
#   deploy/install-dependencies.sh          what building, running and testing need
#   deploy/install-dependencies.sh --fuzz   also clang with libFuzzer, for the `fuzz` preset
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ccache                              # build
  libfmt-dev libspdlog-dev libcli11-dev libboost-json1.81-dev libssl-dev # text, log, command line, JSON, digests
  openmpi-bin libopenmpi-dev                                           # ranks
  libutf8proc-dev                                                      # Unicode
  libjpeg62-turbo-dev libpng-dev libwebp-dev libgif-dev                # stills
  libavformat-dev libavcodec-dev libavutil-dev libswscale-dev          # films
  libgtest-dev ffmpeg python3 python3-numpy                            # tests: GoogleTest, films made on the spot
)
if [[ "${1:-}" == "--fuzz" ]]; then
  packages+=(clang)
elif [[ $# -gt 0 ]]; then
  echo "install-dependencies.sh: unknown argument '$1': expected nothing or --fuzz" >&2
  exit 2
fi

missing=()
for package in "${packages[@]}"; do
  if [[ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" != "install ok installed" ]]; then
    missing+=("$package")
  fi
done
if [[ ${#missing[@]} -eq 0 ]]; then
  echo "install-dependencies.sh: all ${#packages[@]} packages are installed"
  exit 0
fi
echo "install-dependencies.sh: installing ${missing[*]}"
sudo=()
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "install-dependencies.sh: run as root, or install sudo" >&2; exit 1; }
  sudo=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -q >/dev/null
"${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
echo "install-dependencies.sh: done"
