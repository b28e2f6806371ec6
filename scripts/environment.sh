#!/usr/bin/env bash
# Make the virtual environment .venv, or leave it alone where it is as the requirements say.
#
#     bash scripts/environment.sh          what running takes (requirements.txt)
#     bash scripts/environment.sh --dev    and what checking takes (requirements-dev.txt)
#
# PYTHON names the interpreter to make it with; else the first suitable one of the path is taken.
# .venv/.requirements says what is installed and is written last, so an interrupted run is redone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kind=run requirements=requirements.txt
if [[ "${1:-}" == --dev ]]; then
    kind=dev requirements=requirements-dev.txt
fi
python=.venv/bin/python
stamp=.venv/.requirements
unfinished=.venv/.unfinished
checksum="$(cat requirements.txt requirements-export.txt requirements-dev.txt requirements.lock | cksum)"

fail() {
    echo "error: $1" >&2
    exit 2
}

is_ready() {
    local found
    found="$(cat "$stamp" 2>/dev/null)" || return 1
    [[ "$found" == "dev $checksum" || "$found" == "$kind $checksum" ]] &&
        "$python" -c "" 2>/dev/null
}

# 3.10 to 3.13, able to make an environment (Debian packs that part apart).
is_suitable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1
}

find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]]; then
        is_suitable "$PYTHON" ||
            fail "PYTHON=$PYTHON is no Python 3.10 to 3.13 with the modules venv and ensurepip"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if is_suitable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.10 to 3.13 with the modules venv and ensurepip (Debian: python3-venv) is on\
 the path: install one, or name it, as in PYTHON=/path/to/python3"
}

is_ready && exit

# Two at once: the second waits here, and then finds the work done.
if command -v flock >/dev/null; then
    exec 9<requirements.lock
    flock --nonblock 9 || { echo "waiting for another set-up of .venv" && flock 9; }
    is_ready && exit
fi

# Killed halfway, pip can leave packages that look installed; start anew then.
if [[ -e "$unfinished" ]] || ! "$python" -c "" 2>/dev/null; then
    base="$(find_python)"
    echo "making .venv with $("$base" --version)"
    "$base" -m venv --clear .venv || fail "$base cannot make the virtual environment .venv"
elif ! is_suitable "$python"; then
    fail ".venv holds no Python 3.10 to 3.13: delete it, and it will be made anew"
elif ! "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m ensurepip || fail ".venv has no pip and cannot get it: delete it"
fi
rm -f "$stamp"
touch "$unfinished"
echo "installing $requirements in .venv (the first time takes minutes: PyTorch is large)"
status=0
"$python" -m pip install --disable-pip-version-check -r "$requirements" -c requirements.lock || status=$?
rm -f "$unfinished" # pip came to its end: what failed, it took back
((status == 0)) || fail "pip could not install $requirements: see its message above"
echo "$kind $checksum" >"$stamp.partial"
mv "$stamp.partial" "$stamp"
