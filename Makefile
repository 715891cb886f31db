# `make test` and `make demo` need Python >= 3.10 and nothing else: they make their own environment from PyPI.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# More words for pytest: make test ARGS="-k follower -x"
ARGS ?=
# How often `make races` and `make steady` repeat themselves.
TIMES ?= 10

.DEFAULT_GOAL := help
.PHONY: help demo test check lint bench faults races soak steady docs all-pythons clean

help: ## show these targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(VENV)/.installed ## a private server, a worker, and a slow function that is computed once
	$(BIN)/taskcache demo

test: $(VENV)/.installed ## format, style, types, then all tests, in random order, two at a time
	PYTHON=$(BIN)/python tests/check all $(ARGS)

lint: $(VENV)/.installed ## format, style and types alone
	PYTHON=$(BIN)/python tests/check lint

check: test ## what must pass before a commit

bench: $(VENV)/.bench ## the performance budget, beside the peers: ten minutes on a machine that does nothing else
	$(BIN)/python -m tests.bench $(ARGS)

faults: $(VENV)/.installed ## what waiters see when things die, beside Celery's own: half an hour; ARGS="--runs 10 --write"
	$(BIN)/python -m tests.faults $(ARGS)

races: $(VENV)/.installed ## the races, TIMES times over, then a minute of random ones; stops at the first that breaks
	for time in $$(seq $(TIMES)); do \
	  echo "round $$time of $(TIMES)"; $(BIN)/python -m pytest -q tests/races $(ARGS) || exit 1; \
	done
	$(BIN)/python -m tests.races --seed $$(date +%s)

soak: $(VENV)/.installed ## minutes of mixed load while things die; ARGS="--minutes 5 --seed N"
	$(BIN)/python -m tests.soak $(ARGS)

faults-test: $(VENV)/.installed ## every row of the fault matrix, in every pool: five minutes
	TASKCACHE_FAULTS=all $(BIN)/python -m pytest tests/faults -n 2 --dist worksteal $(ARGS)

steady: $(VENV)/.installed ## races and faults, TIMES times over, each in another order, AT_ONCE=4 beside each other; stops at the first flake
	PYTHON=$(BIN)/python tests/steady $(TIMES) $(ARGS)

bench-quick: $(VENV)/.bench ## the same, noisier, within two minutes
	$(BIN)/python -m tests.bench --quick $(ARGS)

# In an environment of its own: nobody needs a site builder to work on the code. Builds without a network.
docs: $(VENV)-docs/.installed ## the site of docs/, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict --quiet

$(VENV)-docs/.installed: pyproject.toml
	@test -x $(VENV)-docs/bin/python || $(PYTHON) -m venv $(VENV)-docs || { rm -rf $(VENV)-docs; exit 1; }
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# Python 3.10 to 3.13, those that are found, each in an environment of its own.
VERSIONS := 3.10 3.11 3.12 3.13
all-pythons: ## the tests with every supported Python found on PATH
	@found=""; \
	for version in $(VERSIONS); do \
	  if python$$version -c "" 2>/dev/null; then found="$$found $$version"; else echo "python$$version: not found"; fi; \
	done; \
	test -n "$$found" || { echo "none of $(VERSIONS) is on PATH"; exit 1; }; \
	for version in $$found; do \
	  $(MAKE) test PYTHON=python$$version VENV=.venv-$$version || exit 1; \
	done

clean: ## remove environments and caches
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# Depends on pyproject.toml alone: the code is installed in place, so editing it needs no second install.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is older than 3.10; say make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) has no venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# The peers are many, and nobody needs them but the benchmark.
$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@
