# One target for each thing a person wants to do here. Needs python3 (3.11 or newer, with venv), git and make.
# Everything runs in .venv, made from the locks at first use (QD_VENV names another folder).
PYTHON ?= python3
QD_VENV ?= $(CURDIR)/.venv
export QD_VENV
PY = $(QD_VENV)/bin/python
# Beside `quick` there are tests that take long (slow) and such that kill processes for minutes (fault).
PYTEST = $(PY) -m pytest -q -p no:cacheprovider
QUICK_TESTS = not slow and not fault
# More than the cores: for half of their time the tests wait.
WORKERS ?= 3

.PHONY: help demo test check slow fault test-all bench soak conformance inspector picture proto docs lock clean run-venv dev-venv

help:
	@echo "make demo        the main job, unattended: three agents work in a sample repository (ARGS=--keep)"
	@echo "make test        set up and pass the tests (ARGS=... goes to pytest)"
	@echo "make check       format, lint, strict types, import rules, tests"
	@echo "make slow        the tests that take long"
	@echo "make fault       kill -9 of agents, sidecars and hubs at random moments"
	@echo "make test-all    the tests on every interpreter from 3.11 to 3.13 that is found"
	@echo "make bench       measure, and compare with others (QUICK=1 for a short run, JSON=FILE)"
	@echo "make soak        the metadata server under load for SECONDS=300: neither memory nor open files may grow"
	@echo "make conformance the official MCP conformance runner (needs npm)"
	@echo "make inspector   the official MCP Inspector over HTTP and stdio (needs npm)"
	@echo "make docs        write what is generated in docs/ anew"

run-venv:
	@$(PYTHON) scripts/bootstrap.py run

dev-venv:
	@$(PYTHON) scripts/bootstrap.py dev

demo: run-venv
	@$(QD_VENV)/bin/qd demo $(ARGS)

test: dev-venv
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "$(QUICK_TESTS)" tests $(ARGS)

slow: dev-venv
	@$(PYTEST) -m "slow and not fault" tests $(ARGS)

fault: dev-venv
	@$(PYTEST) -m fault tests $(ARGS)

check: dev-venv
	@PY="$(PY)" WORKERS="$(WORKERS)" sh scripts/check.sh

test-all:
	@sh scripts/test_all.sh $(ARGS)

bench: dev-venv
	@$(PY) -m benchmarks $(if $(QUICK),--quick) $(if $(JSON),--json "$(JSON)") $(ARGS)

soak: dev-venv
	@$(PY) benchmarks/metadata.py --only "" --soak $(or $(SECONDS),300) --strict

conformance: dev-venv
	@bash scripts/conformance.sh

inspector: dev-venv
	@bash scripts/inspector.sh

docs: dev-venv
	@$(PY) -m benchmarks.report

picture: run-venv
	@$(QD_VENV)/bin/qd demo --picture docs/demo.svg

proto: dev-venv
	@$(PY) scripts/proto.py

lock:
	@sh scripts/lock.sh

clean:
	rm -rf .venv .venvs .bench .agents .gitlab-types .node .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
