# Every target makes its own environment (.venv) when it is missing, and reuses it when it is there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
LATEST := .venv-newest
# the newest Python after 3.11: on the PATH, else among those of pyenv
NEWEST ?= $(shell for p in python3.15 python3.14 python3.13 python3.12 $$(ls -rvd ~/.pyenv/versions/3.1[2-9]*/bin/python 2>/dev/null); \
	do $$p -c '' 2>/dev/null && echo $$p && break; done)
INSTALL := -m pip install --quiet --no-compile --disable-pip-version-check

STUDY := demo
RUN := runs/$(STUDY)$(if $(SMOKE),-smoke)

# in the order of their folders: those that start many processes come first, and no worker waits long at the end
ABREAST := --numprocesses auto --dist loadfile --no-loadscope-reorder

# where the PostgreSQL server of postgres-up keeps its data
POSTGRES ?= $(or $(TMPDIR),/tmp)/crossgap-postgres-$(shell id -u)

.PHONY: demo test test-slow test-system test-lowest test-newest newest check bench clean postgres-up postgres-down

demo: $(READY) ## run the demo study and write its report (SMOKE=1: smallest form)
	@echo "demo: train, invert, measure and compare small CLIPs, then write the report"
	@$(BIN)/python -m ablations.sweep --study $(STUDY) $(if $(SMOKE),--smoke) --out $(RUN)
	@if [ $(RUN)/report/report.html -nt $(RUN)/rows.jsonl ]; then echo "report: $(RUN)/report/report.html"; \
	else $(BIN)/python -m analysis.report $(RUN); fi

test: $(READY) ## run the tests that need nothing but Python
	@echo "test: the tests that need nothing but Python, without the slow ones"
	@$(BIN)/python -m pytest -m "not system and not slow" $(ABREAST)

test-slow: $(READY) ## run the tests that kill processes, wait, measure memory or do everything twice
	@echo "test-slow: the tests that kill processes, wait, measure memory or do everything twice"
	@$(BIN)/python -m pytest -m "slow and not system" $(ABREAST)

test-system: $(READY) ## run the tests that need packages of the operating system
	@echo "test-system: install Chromium and PostgreSQL if they are missing, then the tests that need them"
	@command -v chromium >/dev/null && ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 \
	|| (apt-get update -qq && apt-get install -y -qq chromium postgresql)
	@$(BIN)/python -m pytest -m system

test-lowest: ## the smallest study with every dependency at its lowest version
	@echo "test-lowest: install the lowest versions that pyproject.toml declares, then run the smallest study"
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@$(PYTHON) -m tools.lowest > $(LOWEST)/requirements.txt
	@$(LOWEST)/bin/python $(INSTALL) -r $(LOWEST)/requirements.txt
	$(call smallest,$(LOWEST))

test-newest: ## the smallest study with the newest Python at hand and the newest of every dependency (NEWEST=python3.x)
	@test -n "$(NEWEST)" \
	|| (echo "no Python after 3.11 on the PATH or with pyenv; give one: make test-newest NEWEST=/path/to/python3.13" && exit 2)
	@echo "test-newest: install crossgap for $(NEWEST), then run the smallest study"
	@test -x $(LATEST)/bin/python || $(NEWEST) -m venv $(LATEST)
	@$(LATEST)/bin/python $(INSTALL) .
	$(call smallest,$(LATEST))

newest: ## name the Python of test-newest; nothing where there is none
	@echo $(NEWEST)

# the smoke study, its report and an evaluation, with the Python of an environment
define smallest
	@rm -rf $(1)/runs
	@$(1)/bin/python -m ablations.sweep --smoke --out $(1)/runs/demo
	@$(1)/bin/python -m analysis.report $(1)/runs/demo
	@$(1)/bin/python -m crossgap.evaluate --encoder $(1)/runs/demo/trials/baseline-s0 --dataset emoji \
	--smoke --out $(1)/runs/evaluation
endef

check: $(READY) ## ruff and mypy
	@echo "check: ruff and mypy"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(READY) ## time the fast paths against their slow twins (QUICK=1: smaller forms)
	@echo "bench: ratios of the fast paths to their slow twins, in one run"
	@$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick)

postgres-up: ## start a PostgreSQL server for tests, on loopback in a temporary directory
	@ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || (apt-get update -qq && apt-get install -y -qq postgresql)
	@tools/postgres.sh up $(POSTGRES)

postgres-down: ## stop it and remove its data
	@tools/postgres.sh down $(POSTGRES)

clean: ## remove the environment, caches and build leftovers; runs/ stays
	@echo "clean: remove $(VENV), caches and build leftovers (runs/ stays)"
	@rm -rf $(VENV) $(LOWEST) $(LATEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@echo "setup: create $(VENV) and install crossgap with its development tools (some minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@
