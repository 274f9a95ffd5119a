#!/bin/sh
# Chromium, to look at reports with: Debian's, where there is none and this is root.
set -eu

for program in chromium chromium-browser google-chrome; do
    if command -v "$program" > /dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
    echo "there is no Chromium here; install it as this system does (Debian: apt-get install chromium)" >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium > /dev/null
