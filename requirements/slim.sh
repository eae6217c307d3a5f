#!/bin/sh
# Takes out of an environment what the services never load. usage: slim.sh ENVIRONMENT
set -eu
cd "$1"/lib/python3*/site-packages

# tests and headers
find . -type d \( -name tests -o -name SelfTest \) -path '*/*/*' -prune -exec rm -rf {} +
rm -rf pyarrow/include pyarrow/src numpy/_core/include numpy/_core/lib numpy/f2py numpy/random/lib

# Arrow: only Parquet files are read. Its libraries come once under each of up to three names: one is enough.
rm -rf pyarrow/*flight* pyarrow/libarrow_s3.* pyarrow/_s3fs.* pyarrow/libarrow_gcs.* pyarrow/_gcsfs.*
for library in pyarrow/*.so.*.*.*; do
    short="${library%.*.*}"
    for name in "$short" "${short%.*}"; do
        if [ -e "$name" ] && cmp -s "$name" "$library"; then ln -sf "$(basename "$library")" "$name"; fi
    done
done

# the Kubernetes client a second time, for asyncio
rm -rf kubernetes/aio

# zstandard's second backend, for interpreters without C extensions
rm -f zstandard/_cffi.* zstandard/backend_cffi.py

find pyarrow zstandard tokenizers Crypto -name '*.so*' -type f -exec strip --strip-unneeded {} +
