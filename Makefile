.POSIX:
.PHONY: help setup test lint docs site quickstart compat chromium clean

# A Python of 3.11 or newer: make setup PYTHON=python3.12
PYTHON = python3
BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

help:
	@echo 'make setup       create .venv with everything a developer needs'
	@echo 'make test        everything CI runs: lint, then the tests'
	@echo 'make lint        ruff, mypy, import-linter, codespell'
	@echo 'make docs        write the generated pages of docs/'
	@echo 'make site        build docs/ as a website into build/site; a dead link fails'
	@echo 'make quickstart  train, calibrate and audit a reward model on this machine, offline after the first run'
	@echo 'make compat      check that transformers 4.51 scores MODEL=DIR as stored in its self-test'
	@echo 'make chromium    install the browser of the browser tests, as root on Debian; they are skipped without one'
	@echo 'make clean       remove .venv and caches'

setup: .venv/.installed-dev

test: lint site
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile --no-loadscope-reorder

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/codespell

docs: .venv/.installed-dev
	$(BIN)/python docs/generate.py

site: .venv/.installed-dev
	$(BIN)/zensical build --strict --clean

quickstart: .venv/.installed
	$(BIN)/guerdon quickstart

# A second environment, because the two transformers cannot share one.
MODEL = runs/quickstart/model
compat: .venv-451/.installed
	.venv-451/bin/python tests/compat/read_with_old_transformers.py $(MODEL)

.venv-451/.installed:
	$(PYTHON) -m venv .venv-451
	.venv-451/bin/python -m pip install --quiet torch==2.13.0 transformers==4.51.0 accelerate jinja2
	@touch $@

chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	  && apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium >/dev/null; } \
	  || echo 'There is no Chromium: the browser tests are skipped.' >&2

clean:
	rm -rf .venv .venv-451 .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A stamp is written last, so a broken installation is tried again, and is older than what it depends on when that changes.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'guerdon needs Python 3.11 or newer. Name one: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo 'cannot create .venv. Install the venv module (Debian: python3-venv).' >&2; exit 2; }
	$(PIP) -e '.[starter]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) -e '.[starter,dev,site]'
	@touch $@
