#!/bin/sh
# Gets what the tests against other people's programs need, as far as this machine allows, and says what is missing.
# Packages of the system are installed only in CI (CI=true) and only with the rights to do so.
# Never fails: a test that misses its program skips and says so. Java's own packages are fetched by the tests, by Maven,
# and the vendor's client, Mbed TLS and tinydtls by pip, into build/.
set -u

say() { printf 'interop: %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }

missing=''
need() { # program, Debian package
    has "$1" || missing="$missing $2"
}
need javac default-jdk-headless
need mvn maven
need cc gcc
need strace strace
need openssl openssl
need gnutls-cli gnutls-bin
need coap-client-gnutls libcoap3-bin
# tinydtls is built from its source.
need autoconf autoconf
need automake automake
need libtoolize libtool

if [ -n "$missing" ]; then
    sudo=''
    [ "$(id -u)" = 0 ] || sudo='sudo -n'
    if [ "${CI:-}" != true ]; then
        say "not on this machine:$missing (only CI installs them by itself)"
    elif ! has apt-get || ! $sudo true 2>/dev/null; then
        say "not on this machine and no right to install:$missing"
    else
        say "installing$missing"
        mkdir -p build
        # shellcheck disable=SC2086  # a list of package names
        if ! { $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq \
            --no-install-recommends $missing; } >build/apt.log 2>&1 </dev/null; then
            tail -n 5 build/apt.log
            say "apt-get could not install:$missing (build/apt.log)"
        fi
    fi
fi
exit 0
