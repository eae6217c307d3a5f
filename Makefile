# lrm-safety: `make help` lists the targets.
SHELL := /bin/bash
PY := .venv/bin/python
PROTOS := .venv-protos/bin/python

.PHONY: protos
protos: ## Generate lrm_safety/v1 from protos/ (pinned generator, own environment)
	@test -x $(PROTOS) || (python3 -m venv .venv-protos && .venv-protos/bin/pip install -q grpcio-tools==1.71.2 setuptools==78.1.1 mypy-protobuf==3.6.0)
	@PATH=$(CURDIR)/.venv-protos/bin:$$PATH $(PROTOS) -m grpc_tools.protoc -I protos --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. protos/lrm_safety/v1/*.proto
