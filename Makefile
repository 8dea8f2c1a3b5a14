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
OPTIONS = --dataset $(DATASET) --profile $(PROFILE) --out $(OUT) \
	$(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS)
ABLATE = $(ALTFORMER) ablate $(OPTIONS)

.DEFAULT_GOAL := help
.PHONY: help setup test test-all test-faults chaos check audit bench simulations simulate results mlflow-ui mlflow-server dashboard monitoring cluster-up cluster-down clean tune campaign \
	baselines \
	ablation-depth ablation-embed-dim ablation-fusion ablation-lr ablation-schedule ablation-regularization \
	ablation-positional ablation-embedding ablation-identity ablation-data ablation-loss ablation-patch \
	ablation-capacity ablation-stages ablation-fair-lr ablation-all ablation-datasets

help: ## list the targets
	@echo "Options: SEEDS=1 DATASET=METR-LA PROFILE=quick OUT=runs WORKERS=2 ADDRESS=auto ARGS='--dry-run'; README.md says more"
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12"; exit 2; }
	@echo "Setting up $(VENV) (once; some minutes)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@echo "Set up: source $(VENV)/bin/activate makes altformer and ray known to your shell"
	@touch $@

setup: $(STAMP) ## build .venv (every other target does so by itself)

ablation-depth: $(STAMP) ## main job: how deep must the encoders be?
	@$(ABLATE) depth

ablation-fair-lr: $(STAMP) ## depth again, each arm with the learning rate that suits it
	@$(ABLATE) fair_lr

ablation-embed-dim: $(STAMP) ## width of the model
	@$(ABLATE) embed_dim

ablation-fusion: $(STAMP) ## how temporal and spatial features are joined
	@$(ABLATE) fusion

ablation-lr: $(STAMP) ## learning rate, a search with ASHA
	@$(ABLATE) lr

ablation-schedule: $(STAMP) ## learning-rate schedules and layer-wise rates
	@$(ABLATE) schedule

ablation-regularization: $(STAMP) ## weight decay, dropout, label smoothing, stochastic depth, mixup, cutmix
	@$(ABLATE) regularization

ablation-positional: $(STAMP) ## positional encodings
	@$(ABLATE) positional

ablation-embedding: $(STAMP) ## the inputs beyond the reading, each off in turn
	@$(ABLATE) embedding

ablation-identity: $(STAMP) ## sensor identity x adaptive embedding: main effects and interaction
	@$(ABLATE) identity

ablation-data: $(STAMP) ## batches, longer history, augmentation
	@$(ABLATE) data

ablation-loss: $(STAMP) ## masked MAE, Huber, MAE with missing readings scored
	@$(ABLATE) loss

ablation-patch: $(STAMP) ## input steps per token
	@$(ABLATE) patch

ablation-capacity: $(STAMP) ## larger and smaller models
	@$(ABLATE) capacity

ablation-stages: $(STAMP) ## the guide's architecture variants, with its claims
	@$(ABLATE) stages

ablation-all: $(STAMP) ## all of the above in one plan: a cell that several share is trained once
	@$(ABLATE) all

baselines: $(STAMP) ## the field's models in the same harness, beside the published numbers
	@$(ABLATE) baselines

ablation-datasets: DATASET := $(if $(filter auto,$(DATASET)),at-hand,$(DATASET))
ablation-datasets: $(STAMP) ## one configuration on every data set at hand, as a table for a paper
	@$(ABLATE) datasets

tune: $(STAMP) ## the guide's tuning plan with its gates
	@$(ALTFORMER) tune experiments/tuning.yaml $(OPTIONS)

CAMPAIGN ?= gpu
MINUTES ?= 8
campaign: $(STAMP) ## a slice of the accuracy campaign (CAMPAIGN=gpu MINUTES=8; ARGS=--all for all, --list, --rehearse)
	@$(ALTFORMER) campaign $(CAMPAIGN) --minutes $(MINUTES) --out $(OUT) $(ARGS) || test $$? -eq 3

COVERED := $(CURDIR)/$(VENV)/coverage
test: export COVERAGE_FILE = $(COVERED)/data
test: $(STAMP) ## the tests that every change must pass; COVERAGE=1 holds that they run through 90 % of all lines
	@rm -rf $(COVERED)
	@$(BIN)/python $(if $(COVERAGE),-m coverage run) -m pytest -m "not slow and not ray and not gpu"
	@$(if $(COVERAGE),$(BIN)/coverage combine --quiet && $(BIN)/coverage report --fail-under 90)

test-all: $(STAMP) ## all tests, also the slow ones and those that start Ray
	@$(BIN)/python -m pytest

test-faults: $(STAMP) ## what happens when things break, the long forms too; writes experiments/results/faults.md
	@$(BIN)/python -m pytest tests/faults --long --faults-report experiments/results/faults.md

chaos: $(STAMP) ## ten minutes of random kills on a local cluster of three nodes; writes experiments/results/chaos.md
	@$(BIN)/python -m benchmarks.chaos

check: $(STAMP) ## lint, formatting, types, spelling and code that nothing uses
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/codespell && $(BIN)/vulture --min-confidence 60

AUDIT := $(VENV)/audit
$(AUDIT)/bin/pip-audit: $(STAMP)
	@$(BIN)/python -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit

audit: $(AUDIT)/bin/pip-audit ## known holes in the pinned packages, by pip-audit; needs the network
	@$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off --timeout 10

bench: $(STAMP) ## measure speed beside ceilings, baselines and goals (about 25 minutes); writes experiments/results/bench.md
	@$(BIN)/python -m benchmarks

simulations: $(STAMP) ## measure what statistics and early stopping are worth; rewrites their tables in docs and results
	@$(BIN)/python -m benchmarks.statistics_simulation
	@$(BIN)/python -m benchmarks.early_stopping_simulation

simulate: NODES = 125
simulate: GPUS = 8
simulate: CELLS = 10000
simulate: $(STAMP) ## how far one driver goes, by simulation (NODES=125 GPUS=8 CELLS=10000); rewrites its tables in docs
	@$(BIN)/python -m benchmarks.scale.simulation --nodes $(NODES) --gpus $(GPUS) --cells $(CELLS)

RESULTS := runs/results
QUICK := --profile quick --out $(RESULTS)
results: $(STAMP) ## run all matrices and the tuning plan anew (quick; depth three seeds, most one), publish experiments/results
	@rm -rf $(RESULTS)
	@$(ALTFORMER) ablate depth --dataset METR-LA --seeds 3 $(QUICK)
	@$(ALTFORMER) ablate fair_lr --dataset METR-LA --seeds 3 $(QUICK)
	@$(ALTFORMER) ablate all baselines --dataset METR-LA --seeds 1 $(QUICK)
	@$(ALTFORMER) ablate datasets --dataset at-hand --seeds 1 $(QUICK)
	@$(ALTFORMER) tune experiments/tuning.yaml --dataset METR-LA --seeds 1 $(QUICK)
	@$(BIN)/python -m benchmarks.publish $(RESULTS)

mlflow-ui: $(STAMP) ## open the MLflow pages of the runs on this machine
	@$(ALTFORMER) mlflow-ui --out $(OUT)

mlflow-server: $(STAMP) ## one MLflow for all nodes; more with ARGS='--auth --host 0.0.0.0 --name HOSTNAME'
	@$(ALTFORMER) mlflow-server --out $(OUT) $(ARGS)

dashboard: $(STAMP) ## show where the Ray dashboard is
	@$(ALTFORMER) dashboard

monitoring: $(STAMP) ## Prometheus for the Ray cluster on this machine (or ADDRESS=...), until Ctrl-C
	@$(ALTFORMER) monitoring $(if $(ADDRESS),--address $(ADDRESS))

NODES ?= 2
cluster-up: $(STAMP) ## a Ray cluster of NODES=2 nodes on this machine; run on it with ADDRESS=auto
	@$(ALTFORMER) cluster up --nodes $(NODES) $(ARGS)

cluster-down: $(STAMP) ## end it
	@$(ALTFORMER) cluster down

clean: ## remove caches and build leftovers (neither .venv nor runs)
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
