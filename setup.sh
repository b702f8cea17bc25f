#!/bin/sh
# Makes the virtual environment from the exact lock: setup.sh [python] [folder]
set -eu
wanted=${1:-}
venv=${2:-.venv}

suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' >/dev/null 2>&1; }

python=
for candidate in ${wanted:-python3.11 python3.10 python3 python}; do
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
start=$(date +%s)
echo "setting up $venv with $("$python" --version) (once; about three minutes)"
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r requirements.txt
echo "$venv is ready ($(($(date +%s) - start)) s)"
