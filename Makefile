# Everything runs inside .venv, which each target makes if it is not there. Needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
ARGS ?=

.PHONY: demo test test-long install lint bench clean

demo: .venv/.serve
	$(BIN)/mambalob demo $(ARGS)

test: .venv/.all lint
	$(BIN)/python -m pytest $(ARGS)

# The tests that take minutes, too.
test-long: .venv/.all
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

install: .venv/.all

lint: .venv/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.all
	$(BIN)/mambalob bench stages $(ARGS)

clean:
	rm -rf .venv build dist

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mambalob needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv

# The serving install, without torch.
.venv/.serve: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

# All extras: training, tests and linters, and the peers the benchmarks are held against.
.venv/.all: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable '.[train,dev,peers]'
	touch .venv/.serve $@
