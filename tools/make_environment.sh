#!/bin/sh
# Makes the virtual environment and installs the project with its tools into it.
# Arguments: the environment's folder; an interpreter, or nothing to look for one.
set -eu

venv=$1
wanted=${2:-}

say() { printf '%s\n' "$*" >&2; }

is_suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_interpreter() {
    for candidate in ${wanted:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if command -v "$candidate" >/dev/null 2>&1 && is_suitable "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# An environment that was moved, or whose interpreter is gone or too old, cannot be repaired: make it anew.
if [ ! -x "$venv/bin/python" ] || ! is_suitable "$venv/bin/python"; then
    if ! python=$(find_interpreter); then
        if [ -n "$wanted" ]; then
            say "setup: '$wanted' is no Python 3.11 or newer."
        else
            say "setup: no Python 3.11 or newer found (looked for python3, python3.14 ... python3.11, python)."
        fi
        say "setup: install one, or name it: make setup PYTHON=python3.12"
        exit 1
    fi
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        say "setup: $python cannot make environments; on Debian and Ubuntu install the package python3-venv."
        exit 1
    fi
    say "setup: making $venv with $("$python" --version 2>&1)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

say "setup: installing the packages of constraints.txt (once; a minute or two)"
mkdir -p build
log=build/setup.log
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --constraint constraints.txt --editable '.[dev]' >"$log" 2>&1; then
    cat "$log" >&2
    say "setup: the packages could not be installed; pip's words are above and in $log."
    say "setup: without a way to a package index, set pip up for a mirror or a folder of wheels (PIP_INDEX_URL, PIP_FIND_LINKS)."
    exit 1
fi
