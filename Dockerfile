# syntax=docker/dockerfile:1
# Two images from one file: `service` (the control plane and `lrm`) and `worker` (the same, with the training stack).
# `make images` builds both. They run as any uid, without root, on a read-only root; they write to $HOME, /tmp and
# $LRM_STATE only. The same inputs and SOURCE_DATE_EPOCH give the same bytes.
#
# Package sources of your own: --secret id=pip,src=<pip.conf> --secret id=ca,src=<bundle of certificates>. Neither is in
# any layer.
ARG BASE=docker.io/library/python:3.11-slim

# What runs in the end of the base: no package managers and nothing that only they load, no perl, no documentation.
FROM ${BASE} AS root
RUN dpkg --purge --force-all apt perl-base >/dev/null 2>&1; set -eu; \
    python="$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"; \
    rm -rf "$python"/ensurepip "$python"/idlelib "$python"/lib2to3 "$python"/tkinter "$python"/turtledemo \
        "$python"/pydoc_data "$python"/test "$python"/config-* "$python"/site-packages/* /usr/lib/python3/dist-packages/* \
        /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/pydoc* /usr/local/bin/2to3* /usr/bin/pip* \
        /usr/share/doc /usr/share/info /usr/share/zoneinfo/right /usr/share/zoneinfo/posix /usr/share/locale /usr/share/man /usr/share/perl* /usr/share/python-wheels \
        /usr/lib/*-linux-gnu/gconv /usr/lib/*-linux-gnu/perl* /usr/lib/*-linux-gnu/libapt* /usr/lib/apt \
        /usr/lib/*-linux-gnu/libgnutls.* /usr/lib/*-linux-gnu/libp11-kit.* /usr/lib/*-linux-gnu/libunistring.* \
        /usr/lib/*-linux-gnu/libhogweed.* /usr/lib/*-linux-gnu/libnettle.* /usr/lib/*-linux-gnu/libdb-5* \
        /var/cache /var/lib/apt /var/log /root/.cache; \
    find / -xdev -name __pycache__ -prune -exec rm -rf {} +; \
    mkdir -p -m 755 /var/cache /var/log /srv/lrm /data; \
    echo 'lrm:x:10001:0:lrm-safety:/home/lrm:/usr/sbin/nologin' >> /etc/passwd; \
    install -d -o 10001 -g 0 -m 2775 /home/lrm /var/lib/lrm

FROM ${BASE} AS tools
RUN apt-get update -q && apt-get install -yq --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONHASHSEED=0

# Our own wheel.
FROM tools AS wheel
ARG SOURCE_DATE_EPOCH=0
WORKDIR /build
COPY requirements/build.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/ca.crt \
    python3 -m venv --without-pip env && python3 -m pip --python env install -q --no-compile --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY lrm_safety lrm_safety
COPY services services
RUN env/bin/python -c 'from setuptools import build_meta; build_meta.build_wheel("dist")'

# Everything that the services import, pinned by hash, without what they never load.
FROM tools AS service-packages
COPY requirements/service.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/ca.crt \
    python3 -m venv --without-pip /opt/lrm && \
    python3 -m pip --python /opt/lrm install -q --no-compile --no-deps --require-hashes -r /build/service.txt
COPY requirements/slim.sh /build/
RUN sh /build/slim.sh /opt/lrm

# The training stack on top. ACCELERATOR: cuda (PyPI's torch, with NVIDIA's libraries) or cpu (a tenth of the size).
FROM service-packages AS worker-packages
ARG ACCELERATOR=cuda
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements/model.txt requirements/worker-${ACCELERATOR}.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/ca.crt \
    if [ "${ACCELERATOR}" = cpu ]; then export PIP_EXTRA_INDEX_URL="${TORCH_CPU_INDEX}"; fi; \
    python3 -m pip --python /opt/lrm install -q --no-compile --no-deps --require-hashes \
        -r /build/worker-${ACCELERATOR}.txt -r /build/model.txt
# Triton compiles its driver, against the headers of the base's Python, with the gcc or clang it finds: this one is a wheel
COPY --chmod=755 requirements/clang /build/
RUN if [ "${ACCELERATOR}" = cuda ]; then cp /build/clang /opt/lrm/bin/; fi

FROM service-packages AS service-environment
COPY --from=wheel /build/dist /build/dist
RUN python3 -m pip --python /opt/lrm install -q --no-compile --no-deps --no-index /build/dist/*.whl
# Of scipy the services use sparse matrices; the worker's transformers uses more of it.
RUN cd /opt/lrm/lib/python3*/site-packages && rm -rf scipy.libs && \
    find scipy -mindepth 1 -maxdepth 1 -type d ! -name _lib ! -name sparse -exec rm -rf {} + && \
    rm -rf scipy/sparse/csgraph scipy/sparse/linalg

# Compiled whole, but for what was written for other Pythons: torch alone takes ten seconds at every start otherwise.
FROM worker-packages AS worker-environment
COPY --from=wheel /build/dist /build/dist
RUN python3 -m pip --python /opt/lrm install -q --no-compile --no-deps --no-index /build/dist/*.whl && \
    { /opt/lrm/bin/python -m compileall -qq --invalidation-mode unchecked-hash /opt/lrm/lib || true; }

FROM scratch AS runtime
COPY --from=root / /
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lrm-safety" \
      org.opencontainers.image.description="Make reasoning models safe, and prove it on every checkpoint" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# What no image has compiled (Python's own library, our own code) is compiled once a pod.
ENV PATH=/opt/lrm/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 HOME=/home/lrm \
    PYTHONUNBUFFERED=1 PYTHONPYCACHEPREFIX=/tmp/pycache LRM_STATE=/var/lib/lrm LRM_DATA=/data
WORKDIR /srv/lrm
COPY LICENSE ./
COPY recipes recipes
USER 10001
CMD ["python", "-m", "services"]

FROM runtime AS worker
ENV PYTHONPYCACHEPREFIX=
COPY --from=worker-environment /opt/lrm /opt/lrm

FROM runtime AS service
COPY --from=service-environment /opt/lrm /opt/lrm
