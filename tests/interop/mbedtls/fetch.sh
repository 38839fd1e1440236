#!/bin/sh
# Puts Mbed TLS with its Python binding into an environment of its own under build/, by pip and from wherever this machine's
# pip gets its packages. Prints the folder of the environment. What was fetched once is used again.
# Argument: the Python that makes the environment.
set -u

version=2.10.1
python=${1:-python3}
target=$(cd "$(dirname "$0")/../../.." && pwd)/build/interop/mbedtls-$version

if [ ! -f "$target/.complete" ]; then
    rm -rf "$target"
    mkdir -p "$(dirname "$target")"
    if ! { "$python" -m venv "$target" && "$target/bin/python" -m pip install --quiet --disable-pip-version-check \
        --only-binary :all: "python-mbedtls==$version"; } >"$target.log" 2>&1 </dev/null; then
        tail -n 3 "$target.log"
        echo "pip could not fetch python-mbedtls $version ($target.log)"
        exit 1
    fi
    touch "$target/.complete"
fi
echo "$target"
