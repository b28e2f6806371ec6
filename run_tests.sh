#!/usr/bin/env bash
# Make the environment and run the tests.
#
#     bash run_tests.sh              the fast tier
#     bash run_tests.sh --all        and the slow one
#     bash run_tests.sh ARGUMENTS    handed on to pytest; paths are relative to this folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

for argument; do
    shift
    if [[ "$argument" == --all ]]; then
        set -- "$@" -m "" # overrules the "not slow" of pyproject.toml
    else
        set -- "$@" "$argument"
    fi
done
bash scripts/environment.sh --dev
exec .venv/bin/python -m pytest "$@"
