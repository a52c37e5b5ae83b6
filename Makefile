# The verbs of the house. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup lint lint-js format test test-all coverage demo up lock bench-quality bench-engine bench-dashboard chaos screenshots
help:            ## this list
	@awk -F ':[^#]*## *' '/^[a-z-]+:.*##/ {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## a .venv in this clone with everything; nothing to do when up to date

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
	  || { echo "stillhouse needs Python 3.11, 3.12, 3.13 or 3.14; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
	  || { echo "no virtual environment could be made; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

lock:            ## resolve requirements.lock anew (for maintainers; needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --no-emit-index-url --no-header --no-annotate --quiet -o requirements.lock

lint: setup lint-js  ## ruff, its formatter, mypy strict, import-linter, and lint-js
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

lint-js: setup   ## oxlint on the dashboard's scripts, by .oxlintrc.json; needs no node
	$(BIN)/oxlint dashboard tests/dashboard/unit

format: setup    ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup      ## the tests before a commit, on the embedded stack that they start; COVERAGE=1 measures lines
	$(BIN)/python -m pytest -n auto $(if $(COVERAGE),--cov --cov-report=) $(ARGS)

test-all: setup  ## the long tests, which `make test` leaves out: chaos, long resumes, all pairs, scratch copies
	$(BIN)/python -m pytest -n auto -m "slow and not gpu" $(ARGS)

# Lines that run in the tests' own processes and in the API's process; not the workers' and engines'.
coverage: setup  ## line coverage of each room, as the last `make test COVERAGE=1` measured it
	@for room in api kdcore store stillhouse worker; do \
	  percent=$$($(BIN)/coverage report --format=total --include="$$room/*") || exit 1; \
	  printf '%-12s %s %%\n' $$room $$percent; \
	done

demo: setup      ## the whole product in one run: teacher, student, download, check
	$(BIN)/stillhouse demo $(ARGS)

up: setup        ## the local stack in the foreground
	$(BIN)/stillhouse up $(ARGS)

bench-quality: setup  ## every method and scheme against labels alone; DATA=folder with Fashion-MNIST
	$(BIN)/python -m bench.quality --data $(DATA) $(ARGS)

bench-engine: setup  ## images per second of the engine's loop beside a plain one
	$(BIN)/python -m bench.engine $(ARGS)

bench-dashboard: setup  ## how light the dashboard is: paint with 10,000 jobs, scripts, updates, memory
	$(BIN)/python -m bench.dashboard $(ARGS)

MINUTES ?= 30
chaos: setup     ## clients work while everything fails, by chance: MINUTES=30 SEED=7
	$(BIN)/python -m tests.chaos.storm --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

screenshots: setup  ## pictures of every page in both themes, into docs/images
	$(BIN)/python -m bench.screenshots $(ARGS)
