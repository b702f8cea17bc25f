#!/usr/bin/env bash
# Makes the virtual environment from the exact lock: setup.sh [python] [folder]
set -euo pipefail
wanted=${1:-}
venv=${2:-.venv}

suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' &>/dev/null; }

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

echo "setting up $venv with $("$python" --version) (once; about three minutes)"
rm -rf "$venv"
"$python" -m venv "$venv"
terminal=0; if [ -t 1 ]; then terminal=1; fi
other="< '3.11'"; if "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then other=">= '3.11'"; fi
total=$(grep -v '^#' requirements.txt | grep -v -c -F -- "$other")
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off -r requirements.txt 2>&1 |
    awk -v total="$total" -v terminal="$terminal" -v venv="$venv" '
        /^ERROR|^error/ { print; next }
        /^Collecting/ && terminal { printf "\r\033[Kfetching package %d of %d: %s", ++n, total, $2; fflush() }
        /^Installing collected/ { printf "%sinstalling %d packages\n", terminal ? "\r\033[K" : "", total; fflush() }'
echo "$venv is ready ($SECONDS s)"
