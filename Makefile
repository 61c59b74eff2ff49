# StreamForge on one machine. Needs Linux (or macOS), Python >= 3.11, make and git; everything else is fetched here.
.DEFAULT_GOAL := help
.SHELLFLAGS := -eu -c
.PHONY: help demo test test-kubernetes unit check up down clean bench bench-kubernetes lock
# Goals share one environment and one stack: one after the other.
.NOTPARALLEL:

BIN := .venv/bin
READY := .venv/.ready
MEMBERS := $(patsubst %/pyproject.toml,%,$(wildcard libs/*/pyproject.toml services/*/pyproject.toml platform/local/pyproject.toml))
STACK := $(BIN)/python -m streamforge_local

help: ## this text
	@echo "make <goal>:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 20

demo: $(READY) ## the whole platform at work: a workflow from the request to its candles
	@$(STACK) demo

test: $(READY) ## every test, with real servers; coverage
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered
	@echo "Not in it: the launcher for a cluster, on a real Kubernetes: make test-kubernetes"

# A cluster that is named on the command line is the user's own: the tests use a namespace of theirs and leave nothing.
NAMED_CLUSTER := $(if $(filter command%,$(origin KUBECONFIG)),1)

CLUSTER_TESTS := $(BIN)/python -m pytest -rs tests/kubernetes tests/e2e -k kubernetes

test-kubernetes: $(READY) ## the launcher for a cluster on a real one (Go builds it once, ten minutes), or on KUBECONFIG=...
	@$(if $(NAMED_CLUSTER),,$(BIN)/python -m streamforge_local.kubernetes)
	@echo "Two runs at once, on played nodes and on a real one; the second is shown when the first has ended"
	@STREAMFORGE_TEST_KUBERNETES=1 STREAMFORGE_TEST_KUBECONFIG=$(NAMED_CLUSTER) $(BIN)/python -m streamforge_local.at_once \
		"$(CLUSTER_TESTS) -m 'not node'" "$(CLUSTER_TESTS) -m node"

unit: $(READY) ## the tests that need no server
	@$(BIN)/python -m pytest -m "not integration and not faults"

check: $(READY) ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

up: $(READY) ## start the embedded stack in the background; LAUNCHER=kubernetes: workflows as Jobs in the cluster of KUBECONFIG
	@$(STACK) up

down: $(READY) ## stop the stack, keep its data
	@$(STACK) down

clean: $(READY) ## stop the stack, remove its data
	@$(STACK) clean

bench: $(READY) ## the table of measurements
	@$(BIN)/python -m benchmarks

bench-kubernetes: $(READY) ## three waves of 5,000 Jobs on simulated nodes (half an hour)
	@$(BIN)/python -m streamforge_local.kubernetes
	@$(BIN)/python -m benchmarks.kubernetes_scale

lock: $(READY) ## requirements.in -> the hash-pinned lock files, newest versions
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade --python-version 3.11 \
		--output-file requirements.lock requirements.in
	@awk '/^uv==/ {found = 1} found {print} found && !/\\$$/ {exit}' requirements.lock > requirements-bootstrap.lock

# The environment. Made again when a lock or a member's pyproject.toml changes; an interrupted one is completed.
$(READY): requirements.lock requirements-bootstrap.lock pyproject.toml $(MEMBERS:=/pyproject.toml)
	@if [ ! -x $(BIN)/pip ]; then \
		python=; \
		for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
			if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
		done; \
		[ -n "$$python" ] || { echo "Python >= 3.11 is needed and was not found; install it, or: make PYTHON=/path/to/python" >&2; exit 1; }; \
		echo "Making the environment .venv with $$("$$python" --version)"; \
		"$$python" -m venv .venv || { rm -rf .venv; \
			echo "$$python cannot make environments; install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }; \
	fi
	@echo "Installing uv, then the packages of requirements.lock (about 300 MB, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock \
		|| { echo "uv cannot be installed; is the network (or pip's index setting) all right?" >&2; exit 1; }
	@$(BIN)/uv pip sync --python $(BIN)/python requirements.lock \
		|| { echo "the packages cannot be installed; is the network (or uv's index setting) all right?" >&2; exit 1; }
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(patsubst %,--editable ./%,$(MEMBERS))
	@touch $@
