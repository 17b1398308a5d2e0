# Thin targets; everything runs from .venv, which these targets make. Nothing else has to be prepared.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input --quiet

# An explicit PYTHON=… (argument or variable) decides; otherwise the first on PATH that is new enough.
ifneq ($(strip $(PYTHON)),)
ASKED := $(shell command -v "$(PYTHON)")
endif
FOUND = $(if $(strip $(PYTHON)),$(ASKED),$(shell sh scripts/find-python))
$(shell sh scripts/check-venv $(VENV) "$(CURDIR)" "$(ASKED)")

.PHONY: help demo demo-stop test setup lint types imports format check bench soak proof simulate linearize store-kill docs lock clean
help:
	@echo "make demo          build two versions of a worker, move the dial, roll back (KEEP=1 leaves it running)"
	@echo "make demo-stop     stop what make demo KEEP=1 left running, and remove it"
	@echo "make test          run the test suite (ARGS=… goes to pytest)"
	@echo "make check         lint, types and the import contract"
	@echo "make bench         compare the router with nginx and HAProxy (when they are installed)"
	@echo "make soak          an hour of load (ARGS='--seconds 60' for less): does the router's memory grow?"
	@echo "make proof         move the dial ten times a second under 2,000 requests/s for a minute; nobody may notice"
	@echo "make linearize     check 1,000 recorded histories of concurrent clients on each database (minutes)"
	@echo "make store-kill    kill the store under 16 writers for ten minutes, on each database"
	@echo "make simulate      live lives in virtual time (SEEDS=10000, ARGS=--hurried)"
	@echo "make format        rewrite the sources in the house style"
	@echo "make docs          write docs/verbs.md and docs/conformance-checks.md from the code itself"
	@echo "make lock          resolve the dependencies anew and write requirements/*.lock"
	@echo "make clean         remove what these targets made"
	@echo
	@echo "PYTHON=/path/to/python3 chooses the Python; it must be 3.11 or newer."

$(VENV)/.python:
	@python="$(FOUND)"; \
	test -n "$$python" || { echo "No Python 3.11 or newer was found. Install one, or say where: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$python is older than Python 3.11. Say where a newer one is: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || { echo "$$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	echo "creating $(VENV) with $$python"; \
	"$$python" -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }; \
	printf '%s\n%s\n' "$(CURDIR)" "$$python" > $@

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

# Compiled first, so that the first gtc starts as fast as the second.
demo: $(VENV)/.runtime
	@$(PY) -m compileall -q src
	@$(PY) scripts/demo.py $(if $(KEEP),--keep) $(ARGS)

demo-stop: $(VENV)/.runtime
	@$(PY) scripts/demo.py --stop

test: $(VENV)/.dev
	@$(PY) -m compileall -q src
	$(PY) $(if $(ARGS),-m pytest $(ARGS),scripts/test.py)

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

soak: $(VENV)/.dev
	$(PY) -m benchmarks.soak $(ARGS)

proof: $(VENV)/.dev
	$(PY) -m benchmarks.proof $(ARGS)

# The long forms of what the tests check in short.
linearize: $(VENV)/.dev
	$(PY) -m tests.integration.linearizability $(ARGS)

store-kill: $(VENV)/.dev
	$(PY) -m tests.integration.store_kills $(ARGS)

simulate: $(VENV)/.dev
	$(PY) -m tests.simulation --seeds $(or $(SEEDS),200) $(ARGS)

docs: $(VENV)/.dev
	$(PY) scripts/verbs.py
	$(PY) scripts/checks.py

lock: $(VENV)/.python
	@$(PIP) install uv
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra build pyproject.toml -o requirements/runtime.lock
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra build --extra dev --extra redis --extra telemetry --extra server --extra postgresql -c requirements/runtime.lock pyproject.toml -o requirements/dev.lock
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra build --extra server --extra postgresql -c requirements/dev.lock pyproject.toml -o requirements/server.lock

clean:
	@if [ -e .demo ] && [ -x $(PY) ]; then $(PY) scripts/demo.py --stop; fi
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
