PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
FLOOR := .venv-floor
SOAKS := tests/robustness/test_faults.py tests/end_to_end/test_ranks.py tests/train/test_launch_real.py tests/dctkd_zoo/data/test_shards.py \
	tests/robustness/test_fuzz.py tests/eval/test_results_csv.py $(wildcard tests/robustness/test_hostile_*.py)
CHECKS := check-format check-lint check-types check-readme check-cards

.DEFAULT_GOAL := help
.PHONY: help eval test test-all floor soak bench check fix $(CHECKS)

help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

eval: $(INSTALLED) ## Evaluate every entry whose weights and data are here, and show the leaderboard
	$(BIN)/python -m eval --all

test: export OMP_NUM_THREADS := 1
test: $(INSTALLED) ## Run the tests but the slow ones, one process per core; PYTEST_ARGS='tests/eval' in place of all
	$(BIN)/python -m pytest $(or $(PYTEST_ARGS),-n auto -m 'not slow')

test-all: $(INSTALLED) ## Run all tests, also those marked slow (tests/slow.txt)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

floor: export OMP_NUM_THREADS := 1
floor: $(FLOOR)/.installed ## Run the tests with the lowest versions that pyproject.toml allows
	$(FLOOR)/bin/python -m pytest $(or $(PYTEST_ARGS),-n auto)

check: $(CHECKS) ## Formatting, lint and types, changing nothing

fix: $(INSTALLED) ## Repair what ruff can repair: lint, then formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

soak: export OMP_NUM_THREADS := 1
soak: export SOAK := 1
soak: $(INSTALLED) ## Kill, fill and damage for an hour or two: the long form of the tests of docs/reliability.md
	$(BIN)/python -m pytest -s $(SOAKS)

bench: $(INSTALLED) ## Measure speed, side by side, as ratios in one run; BENCH_ARGS='--quick' for a first look
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

check-format: $(INSTALLED)
	$(BIN)/ruff format --check

check-lint: $(INSTALLED)
	$(BIN)/ruff check

check-types: $(INSTALLED)
	$(BIN)/mypy

check-readme: $(INSTALLED)
	$(BIN)/python -m eval.pages.readme --check
	$(BIN)/python -m eval.pages.results_md --check
	$(BIN)/python -m benchmarks.report --check

check-cards: $(INSTALLED)
	$(BIN)/python -m dctkd_zoo cards --check

# All the set-up there is: made when missing, brought up to date when the dependencies change.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# The same with every dependency at its lower bound.
$(FLOOR)/.installed: pyproject.toml .ci/lowest.py
	test -x $(FLOOR)/bin/python || $(PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/python .ci/lowest.py > $(FLOOR)/lowest.txt
	$(FLOOR)/bin/python -m pip install --quiet --constraint $(FLOOR)/lowest.txt --editable '.[dev]'
	touch $@
