# `make` alone explains itself. Every target works first after a clone: it makes .venv when there is none.

PYTHON ?= $(firstword $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo "$$p"; done) \
	no-python-between-3.11-and-3.14)
UV_VERSION := 0.13.9
# How many tests run at a time. Each worker has a part of the suite as it stands, so that most modules are set up once;
# who is done takes half of what another has left.
WORKERS ?= 2
PARALLEL = -n $(WORKERS) --dist worksteal
SLOWEST = --durations=50 --durations-min=1
# Anything for pytest: make test ARGS="-k retry -x"
ARGS ?=
# What `make chaos` and `make model` draw their chances from: `make chaos SEED=…` repeats what failed.
SEED := $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
# How many requests `make fuzz` makes up for each operation, and how many cases `make model` plays of each kind.
EXAMPLES ?= 150

# The tests start hundreds of processes, and each would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
UV := $(BIN)/uv
READY := .venv/.ready
PYTEST := $(BIN)/python -m pytest -q
SOURCES := .
CLIENT := packages/pyflow-client
# Only a check of the settings: nothing is served or decrypted with these.
PRODUCTION := PYFLOW_ENV=production DJANGO_SETTINGS_MODULE=pyflow_site.settings \
	PYFLOW_SECRET_KEY=check-only-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOP \
	PYFLOW_MASTER_KEYS=check-only:s7jQv9nq3m0bqgV1Tt2x5yZ8Wc4RkLhP6uDfEaGiJoM= \
	PYFLOW_ALLOWED_HOSTS=pyflow.example DATABASE_URL=postgresql://pyflow@127.0.0.1/pyflow REDIS_URL=redis://127.0.0.1:6379
LOCK := $(UV) pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup check lint format types shape django test chaos fuzz model bench run up docs lock audit clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with everything, at the versions and hashes of requirements/dev.txt

$(READY): requirements/dev.txt pyproject.toml packages/pyflow-sdk/pyproject.toml packages/pyflow-client/pyproject.toml
	@test -x $(BIN)/pip || { rm -rf .venv; $(PYTHON) -m venv .venv; } || { rm -rf .venv; \
		echo "No environment: install Python 3.11 or newer with its venv module (Debian: python3-venv)" >&2; exit 1; }
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
		-e packages/pyflow-sdk -e packages/pyflow-client -e .
	@touch $@

check: lint types shape django ## Every gate but the tests: lint, types, layers, repository shape, Django, OpenAPI

lint: $(READY) ## Ruff (lint and format), the import layers, and the generated half of the client
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python $(CLIENT)/generate.py --check

format: $(READY) ## Rewrite the sources as `make lint` wants them, and generate the synchronous client
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/python $(CLIENT)/generate.py

types: $(READY) ## Mypy, strict
	$(BIN)/mypy

shape: $(READY) ## The repository's rules about itself
	$(PYTEST) tests/repo_shape

django: $(READY) ## Migrations up to date, production settings safe, OpenAPI complete
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

# What `make shape` runs of tests/repo_shape is not run again; its tests on PostgreSQL are.
test: $(READY) ## All tests but those of `make shape`, on SQLite in process and then on PostgreSQL, Redis and Celery
	@failed=0; \
	$(PYTEST) $(PARALLEL) $(SLOWEST) --ignore=tests/repo_shape $(ARGS) || failed=1; \
	PYFLOW_TEST_SHAPE=fleet $(PYTEST) $(PARALLEL) $(SLOWEST) $(ARGS) || failed=1; \
	exit $$failed

chaos: $(READY) ## Kill, freeze and cut off workers, PostgreSQL and Redis under load (SEED=… repeats a run; takes an hour)
	@echo "make chaos SEED=$(SEED)"
	PYFLOW_TEST_SHAPE=fleet PYFLOW_TEST_CHAOS=$(SEED) $(PYTEST) tests/chaos tests/integration/triggers/test_two_schedulers.py \
		tests/integration/events/test_storm.py $(ARGS)

fuzz: $(READY) ## Make up more than 10,000 requests to the API, and documents of all shapes (EXAMPLES=150 of each operation)
	PYFLOW_TEST_FUZZ_EXAMPLES=$(EXAMPLES) $(PYTEST) -s -o timeout=0 tests/generated/test_fuzz.py tests/generated/test_shapes.py $(ARGS)

model: $(READY) ## Play random workflows with interruptions, and compare with the documentation (SEED=… EXAMPLES=150 of each kind)
	@echo "make model SEED=$(SEED) EXAMPLES=$(EXAMPLES)"
	@failed=0; \
	PYFLOW_TEST_MODEL=$(SEED) PYFLOW_TEST_MODEL_EXAMPLES=$(EXAMPLES) $(PYTEST) -o timeout=0 tests/model $(ARGS) || failed=1; \
	PYFLOW_TEST_SHAPE=fleet PYFLOW_TEST_MODEL=$(SEED) PYFLOW_TEST_MODEL_EXAMPLES=$(EXAMPLES) \
		$(PYTEST) -o timeout=0 tests/model $(ARGS) || failed=1; \
	exit $$failed

bench: $(READY) ## Measure the engine beside v1's algorithm
	$(BIN)/python -m benchmarks

run: $(READY) ## Start PyFlow on 127.0.0.1:8000 with an example run
	$(BIN)/python -m pyflow_site.quickstart

up: $(READY) ## Start the whole platform on this machine
	$(BIN)/python manage.py up

docs: $(READY) ## Build the documentation site, warnings fatal
	$(BIN)/zensical build --strict

lock: $(READY) ## Resolve requirements/*.in again (UPGRADE=--upgrade for the newest)
	$(LOCK) $(UPGRADE) requirements/dev.in -o requirements/dev.txt
	$(LOCK) requirements/platform.in -c requirements/dev.txt -o requirements/platform.txt
	$(LOCK) requirements/core.in -c requirements/dev.txt -o requirements/core.txt

audit: $(READY) ## Known vulnerabilities in the locks (asks a server) and patterns of them in the code
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements/platform.txt
	$(BIN)/bandit -q -c pyproject.toml -r .

clean: ## Remove .venv, caches and built files
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis site dist
