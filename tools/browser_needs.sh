#!/bin/sh
# Gets the browser that the tests in tests/browser drive, as far as this machine allows, and says what is missing.
# Packages of the system are installed only in CI (CI=true) and only with the rights to do so.
# Never fails: without a browser the tests skip and say so.
set -u

say() { printf 'browser: %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }

has chromium && exit 0
sudo=''
[ "$(id -u)" = 0 ] || sudo='sudo -n'
if [ "${CI:-}" != true ]; then
    say 'not on this machine: chromium (only CI installs it by itself)'
elif ! has apt-get || ! $sudo true 2>/dev/null; then
    say 'not on this machine and no right to install: chromium'
else
    say 'installing chromium'
    mkdir -p build
    if ! { $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq \
        --no-install-recommends chromium fonts-dejavu-core; } >build/apt-browser.log 2>&1 </dev/null; then
        tail -n 5 build/apt-browser.log
        say 'apt-get could not install: chromium (build/apt-browser.log)'
    fi
fi
exit 0
