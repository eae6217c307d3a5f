#!/usr/bin/env bash
# Builds one target of the Dockerfile, dated by the last commit, so that building it again gives the same digest.
# usage: build_image.sh docker|podman|buildah TARGET IMAGE [flags for the tool…]
set -euo pipefail
tool=$1 target=$2 image=$3
shift 3
cd "$(dirname "$0")/.."
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
flags=(--target "$target" --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" --build-arg "VERSION=${image##*:}"
    --build-arg "REVISION=${REVISION:-$(git rev-parse HEAD)}" "$@")

case $tool in
docker) docker buildx build "${flags[@]}" --output "type=docker,name=$image,rewrite-timestamp=true" . ;;
podman) podman build "${flags[@]}" --timestamp "$SOURCE_DATE_EPOCH" --tag "$image" . ;;
buildah) buildah bud "${flags[@]}" --timestamp "$SOURCE_DATE_EPOCH" --tag "$image" . ;;
*) echo "IMAGE_TOOL is '$tool'; expected docker, podman or buildah" >&2 && exit 2 ;;
esac
