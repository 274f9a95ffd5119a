#!/bin/sh
# Puts ONNX Runtime's shared library into .deps/onnxruntime (or the folder that is given), as onnxruntime.lock says.
# Needs python3 with pip; does nothing where the library is there already.
#
#   setup/onnxruntime.sh [FOLDER]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../.deps/onnxruntime}
machine=$(uname -s)-$(uname -m)

# The second word of the line of the lock that begins with $1; the third with `locked $1 3`.
locked() { awk -v key="$1" -v word="${2:-2}" '$1 == key { print $word }' "$here/onnxruntime.lock"; }

version=$(locked version)
python=$(locked python)
platform=$(locked "$machine")
hash=$(locked "$machine" 3)
if [ -z "$hash" ]; then
    echo "setup/onnxruntime.lock has no library for $machine: build or install ONNX Runtime >= $version and set ORT_DYLIB_PATH" >&2
    exit 1
fi

if [ "$(cat "$folder/wheel.sha256" 2>/dev/null)" = "$hash" ] && [ -e "$folder/libonnxruntime.so.$version" ]; then
    exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo "onnxruntime==$version --hash=sha256:$hash" > "$scratch/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --implementation cp --python-version "$python" --abi "cp$(echo "$python" | tr -d .)" --platform "$platform" \
    --dest "$scratch" --requirement "$scratch/requirements.txt"

mkdir -p "$folder"
rm -f "$folder"/libonnxruntime.so*
python3 - "$scratch"/onnxruntime-*.whl "$folder" <<'PYTHON'
import pathlib
import sys
import zipfile

wheel, folder = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2])
for name in wheel.namelist():
    if name.startswith("onnxruntime/capi/libonnxruntime.so.") or name in ("onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"):
        (folder / pathlib.Path(name).name).write_bytes(wheel.read(name))
PYTHON
test -e "$folder/libonnxruntime.so.$version"
echo "$hash" > "$folder/wheel.sha256"
echo "ONNX Runtime $version: $folder/libonnxruntime.so.$version"
