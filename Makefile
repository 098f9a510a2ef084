# Every target makes its own environment (.venv) when it is missing, and reuses it when it is there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

STUDY := demo
RUN := runs/$(STUDY)$(if $(SMOKE),-smoke)

.PHONY: demo test test-system check bench clean

demo: $(READY) ## run the demo study and write its report (SMOKE=1: smallest form)
	@echo "demo: train, invert, measure and compare small CLIPs, then write the report"
	@$(BIN)/python -m ablations.sweep --study $(STUDY) $(if $(SMOKE),--smoke) --out $(RUN)
	@if [ $(RUN)/report/report.html -nt $(RUN)/rows.jsonl ]; then echo "report: $(RUN)/report/report.html"; \
	else $(BIN)/python -m analysis.report $(RUN); fi

test: $(READY) ## run the tests that need nothing but Python
	@echo "test: the tests that need nothing but Python"
	@$(BIN)/python -m pytest -m "not system"

test-system: $(READY) ## run the tests that need packages of the operating system
	@echo "test-system: install Chromium if it is missing, then the tests that look at the report in it"
	@command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium)
	@$(BIN)/python -m pytest -m system

check: $(READY) ## ruff and mypy
	@echo "check: ruff and mypy"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(READY) ## time the fast paths against their slow twins (QUICK=1: smaller forms)
	@echo "bench: ratios of the fast paths to their slow twins, in one run"
	@$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick)

clean: ## remove the environment, caches and build leftovers; runs/ stays
	@echo "clean: remove $(VENV), caches and build leftovers (runs/ stays)"
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@echo "setup: create $(VENV) and install crossgap with its development tools (some minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@
