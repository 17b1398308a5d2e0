# Thin targets; everything runs from .venv, which these targets make. Nothing else has to be prepared.
SHELL := /bin/sh
PYTHON ?= $(shell sh scripts/find-python)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

.PHONY: help demo test setup lint types imports format check bench lock clean
help:
	@echo "make demo          build two versions of a worker, move the dial, roll back (KEEP=1 leaves it running)"
	@echo "make test          run the test suite"
	@echo "make check         lint, types and the import contract"
	@echo "make bench         compare the router with nginx and HAProxy (when they are installed)"
	@echo "make format        rewrite the sources in the house style"
	@echo "make lock          resolve the dependencies anew and write requirements/*.lock"
	@echo "make clean         remove what these targets made"

$(VENV)/.python: scripts/find-python
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found on PATH. Install one, or say where: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "creating $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv --clear $(VENV) || { echo "The venv module is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.runtime: $(VENV)/.python requirements/runtime.lock pyproject.toml
	@echo "installing the locked dependencies"
	@$(PIP) install --require-hashes -r requirements/runtime.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.lock
	@echo "installing the locked development dependencies"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

setup: $(VENV)/.dev

demo: $(VENV)/.runtime
	@$(PY) -m compileall -q src
	@$(PY) scripts/demo.py $(if $(KEEP),--keep)

test: $(VENV)/.dev
	@$(PY) -m compileall -q src
	$(PY) -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/.dev
	$(PY) -m mypy

imports: $(VENV)/.dev
	$(PY) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

check: lint types imports

format: $(VENV)/.dev
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

bench: $(VENV)/.dev
	$(PY) -m benchmarks.router $(ARGS)

lock: $(VENV)/.python
	@$(PIP) install uv
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra build pyproject.toml -o requirements/runtime.lock
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra build --extra dev -c requirements/runtime.lock pyproject.toml -o requirements/dev.lock

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
