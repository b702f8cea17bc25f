#!/usr/bin/env bash
# Makes the virtual environment from an exact lock: setup.sh [python] [folder] [lock]
# The folder holds the file .ready once everything is installed, and only then.
set -euo pipefail
wanted=${1:-}
venv=${2:-.venv}
lock=${3:-requirements.txt}
here=${BASH_SOURCE[0]}
case $here in */*) ;; *) here=./$here ;; esac
tools=$(cd "${here%/*}" && pwd)

suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' &>/dev/null; }
base() { "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null; }
whole() { [ -f "$venv/.ready" ] && "$venv/bin/python" -m pip --version &>/dev/null; }

python=
for candidate in ${wanted:+"$wanted"} ${wanted:-python3.11 python3.10 python3 python}; do
    if suitable "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    if [ -n "$wanted" ]; then
        echo "error: $wanted is not Python 3.11 or 3.10 with venv; give another with PYTHON=" >&2
    else
        echo "error: Python 3.11 (or 3.10) with venv is needed; install it (Debian, Ubuntu: apt install python3.11-venv) or give its path: make run PYTHON=/path/to/python3.11" >&2
    fi
    exit 2
fi
if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    echo "error: Triton's wheel and the lock are for Linux on x86-64; this is $(uname -s) on $(uname -m). Use docker/ there" >&2
    exit 2
fi
if [ ! -r "$lock" ]; then
    echo "error: $lock, the list of packages to install, cannot be read; run this in Marquee's folder" >&2
    exit 2
fi
# What is no environment, finished or not, is not deleted.
if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ ! -f "$venv/.unfinished" ] && [ -n "$(ls -A "$venv")" ]; then
    echo "error: $venv exists and is not a virtual environment; give another folder with VENV=" >&2
    exit 2
fi

# One set-up at a time: the second waits, and finds the work done.
if command -v flock >/dev/null; then
    exec 9<"$lock"
    flock --nonblock 9 || { echo "waiting for another set-up"; flock 9; }
fi
if whole && [ "$venv/.ready" -nt "$lock" ] && [ "$venv/.ready" -nt "$tools/uv.txt" ] && [ "$(base "$venv/bin/python")" = "$(base "$python")" ]; then
    exit 0
fi

# An environment that was never finished may hold half a package that looks whole. It is made again, which takes
# seconds: what was fetched for it is in the installer's cache.
if whole && [ "$(base "$venv/bin/python")" = "$(base "$python")" ]; then
    echo "bringing $venv up to date with $lock"
    touch "$venv/.unfinished"
    rm -f "$venv/.ready"
else
    echo "setting up $venv with $("$python" --version) (once; about a minute, more on a slow line)"
    mkdir -p "$venv"
    touch "$venv/.unfinished" # stays to the end, and says after a kill that the folder is a set-up's
    find "$venv/" -mindepth 1 -maxdepth 1 ! -name .unfinished -exec rm -rf {} +
    "$python" -m venv "$venv"
fi
"$venv/bin/python" "$tools/install.py" "$lock"
rm -f "$venv/.unfinished"
touch "$venv/.ready"
echo "$venv is ready ($SECONDS s)"
