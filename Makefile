# GDOS: `make demo` runs the main job, `make test` passes the tests. Both set up all they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
SOURCES := $(shell find gdos examples web_dist -type f -not -name '*.pyc' 2>/dev/null) build_zipapp.py pyproject.toml requirements/runtime.txt

.DEFAULT_GOAL := help

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## the virtual environment, from hash-locked requirements

$(STAMP): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gdos needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.txt
	@touch $@

dist/gdos: $(STAMP) $(SOURCES)
	$(BIN)/python build_zipapp.py --output $@

zipapp: dist/gdos ## the one executable file

demo: dist/gdos ## build the file and run the whole tour with it
	$(BIN)/python dist/gdos demo --once

lint: $(STAMP) ## ruff, and mypy --strict for the three platforms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	for p in linux win32 darwin; do $(BIN)/mypy --platform $$p || exit 1; done

test: $(STAMP) dist/gdos ## the whole suite
	$(BIN)/python -m pytest -n 4 --dist loadgroup tests

test-fast: $(STAMP) ## units and contracts only, under 30 s
	$(BIN)/python -m pytest -n 2 tests/unit tests/contracts

docs: $(STAMP) ## write the generated pages again
	$(BIN)/python docs/generate.py

lock: $(STAMP) ## resolve the requirements anew
	for n in runtime dev; do $(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header --upgrade requirements/$$n.in -o requirements/$$n.txt; done

clean: ## remove what was built
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache

.PHONY: help setup zipapp demo lint test test-fast docs lock clean
