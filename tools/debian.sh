#!/usr/bin/env bash
# Puts the programs of debian.txt that PATH lacks into a virtual environment: debian.sh [folder]
# Each is taken out of its package, which is not installed: no service starts, and nothing else on the machine changes. Only those
# that are listed with `install`, as they need more than one file, are installed. Where that cannot be done, it says so and ends well:
# the tests that need the program are skipped.
set -euo pipefail
venv=$(realpath "${1:-.venv}")
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
apt() { timeout 600 apt-get -qq -o Acquire::http::Timeout=20 -o Acquire::Retries=1 "$@"; }

fetch() { # fetch PROGRAM PACKAGE
    local folder
    folder=$(mktemp -d "$venv/debian.XXXXXX") || return 1
    # The lists of packages are old, or not there, on a new machine; only root may renew them.
    if [ "$(id -u)" = 0 ]; then apt update || true; fi
    (cd "$folder" && apt download "$2" && dpkg-deb --extract ./*.deb . && mv "usr/bin/$1" "$venv/bin/$1")
    local failed=$?
    rm -rf "$folder"
    return $failed
}

install() { # install PACKAGE
    if [ "$(id -u)" != 0 ]; then echo "only root may install it" >&2; return 1; fi
    apt update || true
    DEBIAN_FRONTEND=noninteractive apt -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends "$1"
}

while read -r program package how; do
    if [ -x "$venv/bin/$program" ] || command -v "$program" >/dev/null; then continue; fi
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "$program is not here and there is no apt-get: the tests that need it are skipped"
    elif [ "$how" = install ]; then
        if reason=$(install "$package" 2>&1 </dev/null); then
            echo "$program: Debian's package $package is installed"
        else
            echo "$program cannot be had from Debian's package $package (${reason##*$'\n'}): the tests that need it are skipped"
        fi
    elif reason=$(fetch "$program" "$package" 2>&1); then
        echo "$program: taken from Debian's package $package into $venv/bin"
    else
        echo "$program cannot be had from Debian's package $package (${reason##*$'\n'}): the tests that need it are skipped"
    fi
done < <(grep -v '^#' "$tools/debian.txt")
