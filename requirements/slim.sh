#!/bin/sh
# Takes out of an environment what the services never load. usage: slim.sh ENVIRONMENT
set -eu
cd "$1"/lib/python3*/site-packages

# tests, headers, sources of compiled modules, stubs, symbols
find . -type d \( -name tests -o -name test_data -o -name SelfTest \) -path '*/*/*' -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' -o -name '*.h' \) -delete
rm -rf pyarrow/include pyarrow/src numpy/_core/include numpy/_core/lib numpy/random/lib
find . -name '*.so*' -type f -not -path './*.libs/*' -exec strip --strip-unneeded {} +

# Arrow: only Parquet files are read, from disk. Its library for Python comes under three names: one is enough.
rm -rf pyarrow/*flight* pyarrow/libarrow_s3.* pyarrow/_s3fs.* pyarrow/_gcsfs.* pyarrow/_azurefs.* pyarrow/_hdfs.*
for part in acero csv dataset feather json orc pyarrow_cpp_tests substrait; do rm -f pyarrow/_"$part"*.so; done
for library in pyarrow/*.so.*.*.*; do
    short="${library%.*.*}"
    for name in "$short" "${short%.*}"; do ln -sf "$(basename "$library")" "$name"; done
done

# time zones: nothing here asks for one
rm -rf tzdata/zoneinfo

# zstandard's second backend, for interpreters without C extensions
rm -f zstandard/_cffi.* zstandard/backend_cffi.py

# what pygments knows of 500 languages; the terminal shows Python at most
find pygments/lexers -name '*.py' ! -name __init__.py ! -name _mapping.py ! -name python.py -delete

# the Kubernetes client a second time, for asyncio
rm -rf kubernetes/aio

# mechanics and benchmarks: no answer to a question of mathematics needs them
find sympy -type d -name benchmarks -prune -exec rm -rf {} +
for part in biomechanics continuum_mechanics control mechanics; do rm -rf sympy/physics/$part; done
rm -rf sympy/parsing/autolev

# Nobody steps into these: bytecode without docstrings is smaller, and nothing is compiled when a pod starts, on a root that
# keeps no caches. Tracebacks still name files and lines. Mathematics keeps its assertions: its parsers catch them.
mathematics="antlr4 latex2sympy2_extended math_verify mpmath sympy"
"$1"/bin/python -m compileall -q -b --invalidation-mode unchecked-hash $mathematics
find $mathematics -name '*.py' -delete
"$1"/bin/python -OO -m compileall -q -b --invalidation-mode unchecked-hash .
find . -name '*.py' -delete
