#!/usr/bin/env bash
# Writes the lock files that the images install from: names, versions, hashes; where they come from is the builder's.
# usage: lock.sh UV
set -euo pipefail
UV=$(realpath "$1")
cd "$(dirname "$0")/.."

compile() {
    "$UV" pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --no-strip-extras "$@" >/dev/null
}

# hf-xet speeds up downloads of weights, which only workers make
UV_FIND_LINKS='' compile pyproject.toml --no-emit-package hf-xet -o requirements/service.txt
UV_FIND_LINKS='' compile pyproject.toml --extra worker --extra liger --extra compiler -c requirements/service.txt \
    -o requirements/worker-cuda.txt
# where a folder of wheels is set, torch's CPU build is in it
compile pyproject.toml --extra worker -c requirements/service.txt $([ -n "${UV_FIND_LINKS:-}" ] || echo --torch-backend cpu) \
    -o requirements/worker-cpu.txt
UV_FIND_LINKS='' compile - -o requirements/build.txt <<< $'setuptools>=78\nwheel'
