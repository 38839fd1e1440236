# Every target works on a fresh clone: what it needs is made first. `make` alone lists the targets.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stellwerk-installed
COMPILED := $(VENV)/.tests-compiled
# An interpreter of your choice: make setup PYTHON=python3.12
PYTHON ?=
# Which benchmark: agreement, bootstrap, commands, dtls, dtls_micro, flood, memory, oscore, restart, run, start, storage,
# sustained, tls
BENCH ?= run
# More words for the program behind a target: make test ARGS="-k blockwise -x"; with --hypothesis-profile thorough every
# property is tried with all the examples it asks for
ARGS ?=

.PHONY: help setup demo test check format docs interop browser bench fuzz clean

help:
	@echo 'make setup    the environment: $(VENV) with stellwerk and the tools to develop it'
	@echo 'make demo     a server with simulated devices on this machine; bearer token: demo'
	@echo 'make test     every test that needs nothing but Python'
	@echo 'make check    lint, format, strict types, import rules, conformance page'
	@echo 'make interop  tests against the programs of others (Java, Maven, pip, OpenSSL, GnuTLS, libcoap, strace, a C compiler)'
	@echo 'make browser  the console in a real browser (Chromium)'
	@echo 'make bench    speed, side by side with others (a C compiler); BENCH=memory and others: docs/performance.md'
	@echo 'make fuzz     every decoder against made-up bytes, for as long as you like (atheris)'
	@echo 'make format   let ruff lay out the code'
	@echo 'make docs     write docs/conformance.md anew from the tests'
	@echo 'make clean    remove what these targets made, except $(VENV)'

setup: $(STAMP)
	@echo '$(VENV) is ready'

$(STAMP): pyproject.toml constraints.txt tools/make_environment.sh
	@sh tools/make_environment.sh '$(VENV)' '$(PYTHON)'
	@touch $@

# The program and its tests compiled, which the first run of the tests would do once in each of its processes.
$(COMPILED): $(STAMP)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only >$(VENV)/compile.log 2>&1 || true
	@touch $@

demo: $(STAMP)
	@exec $(BIN)/stellwerk demo $(ARGS)

test: $(STAMP) $(COMPILED)
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo 'some files are not laid out as ruff does it; run: make format' >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >$(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log >&2; exit 1; }
	@$(BIN)/python tools/conformance.py --check
	@echo 'lint, format, types, import rules and conformance page: good'

format: $(STAMP)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

docs: $(STAMP)
	@$(BIN)/python tools/conformance.py

interop: $(STAMP)
	@sh tools/interop_needs.sh
	@$(BIN)/python -m pytest -rs -m '' --timeout 300 -n 3 --dist loadfile --no-loadscope-reorder tests/interop tests/loopback tests/unit/dtls $(ARGS)

browser: $(STAMP)
	@sh tools/browser_needs.sh
	@$(BIN)/python -m pytest -rs --timeout 120 tests/browser $(ARGS)

bench: $(STAMP)
	@$(BIN)/python benchmarks/$(BENCH).py $(ARGS)

fuzz: $(STAMP)
	@$(BIN)/python tools/fuzz.py $(ARGS)

clean:
	@rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
