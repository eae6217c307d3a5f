#!/usr/bin/env bash
# Installs what a real node needs and Debian has: containerd, runc, CNI plugins; buildah and debootstrap for its images.
set -euo pipefail
needed=(containerd runc containernetworking-plugins buildah debootstrap busybox-static iproute2 libnuma1)
missing=()
for package in "${needed[@]}"; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
[ ${#missing[@]} = 0 ] && exit 0
apt-get update -q >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" >/dev/null
# Debian starts its own containerd where there is systemd; start.sh runs another, with its own folders
