#!/bin/sh
# Puts cmake into .deps/tools where the machine has none that is new enough for the HDF5 library (3.26).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tools=$here/../.deps/tools

new_enough() {
    found=$("$1" --version 2>/dev/null | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    [ -n "$found" ] && set -- $found && { [ "$1" -gt 3 ] || { [ "$1" -eq 3 ] && [ "$2" -ge 26 ]; }; }
}

if new_enough cmake || new_enough "$tools/bin/cmake"; then
    exit 0
fi
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$here/cmake.txt"
echo "cmake: $tools/bin/cmake"
