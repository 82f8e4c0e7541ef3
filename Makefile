# make demo: the flights project, end to end, on real data.   make test: every check and every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MLFLOW := .venv-mlflow
PIP := -m pip install --quiet --disable-pip-version-check
SERVE ?= 0

.PHONY: demo setup test lint bench bench-smoke lock clean

demo: setup
	$(BIN)/python examples/flights/demo.py $(if $(filter 1,$(SERVE)),--serve)

setup: $(VENV)/.ready

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Envol needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian, apt install python3-venv"; exit 2; }
	$(BIN)/python $(PIP) --require-hashes -r requirements/dev.txt
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# The environment of a package that another tool loads: MLflow and what the model needs, without Envol.
$(MLFLOW)/.ready: requirements/mlflow.txt
	@test -x $(MLFLOW)/bin/python || $(PYTHON) -m venv $(MLFLOW)
	$(MLFLOW)/bin/python $(PIP) --require-hashes -r requirements/mlflow.txt
	@touch $@

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint $(MLFLOW)/.ready
	$(BIN)/python -m pytest

# Envol beside its peers, as ratios; each prints a table (see docs/benchmarks.md).
bench: setup
	$(BIN)/python benchmarks/windows.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/isolation.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/pipeline

# The same on small sizes: do they still run?
bench-smoke: setup
	$(BIN)/python benchmarks/windows.py --quick
	$(BIN)/python benchmarks/scale.py --quick
	$(BIN)/python benchmarks/isolation.py --quick
	$(BIN)/python benchmarks/serving.py --quick
	$(BIN)/python benchmarks/pipeline --quick --peers none

# Exact versions with hashes; no index address is written into the files.
lock:
	uv pip compile pyproject.toml --group dev --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet -o requirements/dev.txt
	uv pip compile requirements/mlflow.in -c requirements/dev.txt --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet -o requirements/mlflow.txt
	for peer in dagster kedro metaflow prefect; do uv pip compile benchmarks/pipeline/requirements/$$peer.in --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet -o benchmarks/pipeline/requirements/$$peer.txt; done

clean:
	rm -rf $(VENV) $(MLFLOW) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache examples/flights/.envol
