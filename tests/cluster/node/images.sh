#!/usr/bin/env bash
# Builds every image that a cluster of one node needs, where no registry is in reach: the base from Debian's packages, the
# platform's own from the Dockerfile, and test images of what is taken from upstream elsewhere. `make setup` comes first.
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
cd "$HERE/../../.."
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BASE=docker.io/library/python:3.11-slim
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"; [ -z "${server:-}" ] || kill "$server"' EXIT

has() { buildah inspect --type image "$1" >/dev/null 2>&1; }
make_image() { # NAME FROM [config flag…] -- [SRC DST…]
    local name=$1 container flags=()
    container=$(buildah from --pull-never "$2"); shift 2
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    while [ $# -gt 0 ]; do buildah copy -q "$container" "$1" "$2" >/dev/null; shift 2; done
    buildah config "${flags[@]}" "$container"
    buildah commit -q --rm "$container" "$name" >/dev/null
}

if ! has $BASE; then # Debian's own Python 3.11 in the place of the official image
    debootstrap --variant=minbase --include=python3,python3-pip,ca-certificates bookworm "$WORK/base" >/dev/null
    rm -rf "$WORK"/base/var/cache/apt/archives/* "$WORK"/base/var/lib/apt/lists/*
    make_image $BASE scratch --cmd python3 -- "$WORK/base" /
    rm -rf "$WORK/base"
fi

# What pip is told on this machine, for the time of the build only.
{
    echo "[global]"
    echo "cert = /run/ca.crt"
    index=$(python3 -m pip config get global.index-url 2>/dev/null || true)
    [ -z "$index" ] || echo "index-url = $index"
    if [ -d "${PIP_FIND_LINKS:-}" ]; then
        python3 -m http.server 18099 --bind 127.0.0.1 --directory "$PIP_FIND_LINKS" >/dev/null 2>&1 & server=$!
        echo "find-links = http://127.0.0.1:18099/"
    fi
} > "$WORK/pip.conf"
make images IMAGE_TOOL=buildah IMAGE_REPO=localhost ACCELERATOR=cpu IMAGE_FLAGS="--isolation oci --runtime runc --network host \
    --pull-never --layers --build-arg TORCH_CPU_INDEX= --secret id=pip,src=$WORK/pip.conf --secret id=ca,src=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt} $*"

make_image localhost/pause:1 scratch --entrypoint '["/busybox", "sleep", "2147483647"]' -- /bin/busybox /busybox
make_image localhost/store:1 scratch --user 10001 -- .venv/bin/weed /usr/bin/weed
# vLLM's CPU build in the place of vllm/vllm-openai, compiled by starting it once
engine=$(buildah from --pull-never localhost/lrm-safety:"$VERSION")
buildah copy -q "$engine" .venv-vllm/lib/python3.11/site-packages /opt/vllm >/dev/null
buildah copy -q "$engine" "$(realpath /usr/lib/x86_64-linux-gnu/libnuma.so.1)" /usr/lib/x86_64-linux-gnu/libnuma.so.1 >/dev/null
buildah config --user root --env PYTHONPATH=/opt/vllm --env PYTHONPYCACHEPREFIX= "$engine"
# the service's cut of scipy: vLLM takes it for the whole, and does without where there is none
buildah run --isolation oci --runtime runc "$engine" sh -c 'rm -rf /opt/lrm/lib/python3*/site-packages/scipy*'
buildah run --isolation oci --runtime runc "$engine" python3 -m vllm.entrypoints.openai.api_server --help >/dev/null
buildah commit -q --rm "$engine" localhost/engine:1 >/dev/null
buildah images --format '{{.Name}}:{{.Tag}} {{.Size}}' | grep -e localhost -e library/python
