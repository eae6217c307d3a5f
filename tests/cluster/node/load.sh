#!/usr/bin/env bash
# Puts the built images where the node's containerd finds them. usage: load.sh STATE
set -euo pipefail
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' "$(dirname "$(realpath "$0")")/../../../pyproject.toml")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
for image in pause:1 store:1 "lrm-safety:$VERSION" "lrm-safety-worker:$VERSION" engine:1; do
    buildah push -q "localhost/$image" "docker-archive:$WORK/image.tar:localhost/$image"
    ctr --address "$(realpath "$1")/containerd.sock" -n k8s.io images import "$WORK/image.tar" >/dev/null
    rm "$WORK/image.tar"
done
