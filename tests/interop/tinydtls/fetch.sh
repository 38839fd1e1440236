#!/bin/sh
# Builds tinydtls with its Python binding (a C compiler and autotools do it) into an environment of its own under build/,
# by pip and from wherever this machine's pip gets its packages. Prints the folder of the environment. What was built once
# is used again.
# Argument: the Python that makes the environment.
set -u

version=0.2.3
python=${1:-python3}
target=$(cd "$(dirname "$0")/../../.." && pwd)/build/interop/tinydtls-$version

if [ ! -f "$target/.complete" ]; then
    for tool in cc autoconf automake libtoolize; do
        command -v $tool >/dev/null 2>&1 || { echo "no $tool on this machine, which its build needs"; exit 1; }
    done
    rm -rf "$target"
    mkdir -p "$(dirname "$target")"
    if ! { "$python" -m venv "$target" && "$target/bin/python" -m pip install --quiet --disable-pip-version-check \
        "DTLSSocket==$version"; } >"$target.log" 2>&1 </dev/null; then
        tail -n 3 "$target.log"
        echo "pip could not fetch DTLSSocket $version ($target.log)"
        exit 1
    fi
    touch "$target/.complete"
fi
echo "$target"
