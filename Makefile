# AltFormer. Every target sets itself up: .venv is built when missing and when its pins changed.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ALTFORMER := $(BIN)/altformer

# Options of the ablation targets, e.g. make ablation-depth SEEDS=5 DATASET=PEMS08 PROFILE=full WORKERS=2 ADDRESS=auto
DATASET ?= auto
PROFILE ?= auto
SEEDS ?=
WORKERS ?=
ADDRESS ?=
OUT ?= runs
ARGS ?=
ABLATE = $(ALTFORMER) ablate --dataset $(DATASET) --profile $(PROFILE) --out $(OUT) \
	$(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup test test-all check bench results mlflow-ui dashboard clean \
	ablation-depth ablation-embed-dim ablation-fusion ablation-lr

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 2; }
	@echo "Setting up $(VENV) (once; some minutes)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP) ## build .venv (every other target does so by itself)

ablation-depth: $(STAMP) ## main job: how deep must the encoders be?
	@$(ABLATE) depth

ablation-embed-dim: $(STAMP) ## width of the model
	@$(ABLATE) embed_dim

ablation-fusion: $(STAMP) ## how temporal and spatial features are joined
	@$(ABLATE) fusion

ablation-lr: $(STAMP) ## learning rate, a search with ASHA
	@$(ABLATE) lr

test: $(STAMP) ## the tests that every change must pass
	@$(BIN)/python -m pytest -m "not slow and not ray and not gpu"

test-all: $(STAMP) ## all tests, also the slow ones and those that start Ray
	@$(BIN)/python -m pytest

check: $(STAMP) ## lint, formatting and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(STAMP) ## measure speed; writes experiments/results/bench.md
	@$(BIN)/python -m benchmarks

results: $(STAMP) ## run the depth matrix anew on METR-LA (quick) and publish it in experiments/results/depth
	@rm -rf runs/results
	@$(ALTFORMER) ablate depth --dataset METR-LA --profile quick --seeds 3 --out runs/results
	@$(BIN)/python -m benchmarks.publish runs/results/depth-METR-LA-* depth

mlflow-ui: $(STAMP) ## open the MLflow pages of the runs on this machine
	@$(ALTFORMER) mlflow-ui --out $(OUT)

dashboard: $(STAMP) ## show where the Ray dashboard is
	@$(ALTFORMER) dashboard

clean: ## remove caches and build leftovers (neither .venv nor runs)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
