# Each target installs what it needs into .venv first. Python 3.11 or later with its venv module is enough.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The versions that CI tests with. CONSTRAINTS= takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
SUM := $(shell cat pyproject.toml $(CONSTRAINTS) | cksum | cut -d' ' -f1)
PROGRAM := $(VENV)/.program-$(SUM)
TOOLS := $(VENV)/.tools-$(SUM)
# Environments of their own: these tools need many packages that no test needs.
DIST := build/dist-$(SUM)
AUDIT := build/audit-$(SUM)
LOWEST := build/lowest-$(SUM)
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: help demo test test-systemd check docs bench bench-fleet profile soak fuzz proof mutants lowest constraints audit dist deb clean
.DEFAULT_GOAL := help

help:  ## list the targets, with their times on two cores after the first installation (1 minute)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(PROGRAM)  ## the daemon against three simulated vendors; 30 s
	@$(BIN)/roundsman demo --for 30s

test: $(TOOLS)  ## all tests, three files at a time; PYTEST_ARGS=tests/test_time.py: one file; 15 min
	@# Tests start programs some thousand times: none of them compiles, also where Python may not write what it compiled.
	$(BIN)/python -m compileall -q -j 2 -x '/test_[a-z_]*[.]py$$' src tests
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-systemd: $(TOOLS)  ## the tests on a booted Debian, as root; needs debootstrap and systemd-container; 3 min
	$(BIN)/python -m pytest tests/systemd $(PYTEST_ARGS)

check: $(TOOLS)  ## format, lint, types, unused names; 30 s
	$(BIN)/ruff format --check src tests docs .ci
	$(BIN)/ruff check src tests docs .ci
	$(BIN)/mypy
	$(BIN)/vulture

docs: $(TOOLS)  ## build/docs: the documentation as HTML, with checked links; 5 s
	$(BIN)/python docs/tools/reference.py
	$(BIN)/python docs/tools/house.py
	$(BIN)/python docs/tools/dashboard.py
	$(BIN)/zensical build --strict

bench: $(TOOLS)  ## figures beside those of the bare tools; QUICK=1: small amounts; ROWS="backlog poll": these rows; 20 min
	$(BIN)/python tests/benchmarks/run.py $(if $(QUICK),quick) $(ROWS)

bench-fleet: $(TOOLS)  ## workers on PostgreSQL beside a daemon on SQLite; needs PostgreSQL; QUICK=1, ROWS="quiet many"; 15 min
	$(BIN)/python tests/benchmarks/fleet.py $(if $(QUICK),quick) $(ROWS)

profile: $(TOOLS)  ## where the time of a backlog goes, by function; 30 s
	$(BIN)/python tests/benchmarks/profiled.py $(or $(EVENTS),100000)

soak: $(TOOLS)  ## a year of twenty sources in simulated time; HOURS=1: one visit an hour; 5 min
	ROUNDSMAN_SOAK_DAYS=365 ROUNDSMAN_SOAK_HOURS=$(or $(HOURS),1) $(BIN)/python -m pytest -s tests/test_soak.py

fuzz: $(TOOLS)  ## random webhooks by a fuzzer that watches the code; SECONDS=60: how long; 1 min
	$(PIP) --quiet --group fuzz
	cd tests && ../$(BIN)/python fuzz.py -max_total_time=$(or $(SECONDS),60) -max_len=8192

proof: $(TOOLS)  ## kills, power cuts, failing disks, simulations, a year, fuzzing, with whole budgets; hours
	ROUNDSMAN_CUTS=400 ROUNDSMAN_KILLS=400 ROUNDSMAN_SIMULATIONS=1000 $(BIN)/python -m pytest -s \
		tests/test_power.py tests/test_kill.py tests/test_fleet_kill.py tests/test_simulation.py tests/test_simulation_fleet.py tests/test_simulation_vendors.py tests/test_simulation_lists.py \
		tests/test_fuzz.py tests/test_contract.py tests/test_writer.py tests/test_upgrades.py tests/stores/test_stopped.py
	$(MAKE) soak
	$(MAKE) fuzz SECONDS=1800

mutants: $(TOOLS)  ## changes of FILE=src/... that no test notices; N=60 of them, SEED=1; under 20 min
	$(BIN)/python tests/mutants.py $(FILE) --count $(or $(N),60) --seed $(or $(SEED),1)

lowest: $(LOWEST)/.done  ## tests that need no server, with the lowest versions that pyproject.toml allows; 2 min
	@# Old libraries on newer ones of their own warn, and old tools of tests leave sockets of event loops open.
	$(LOWEST)/bin/python -m pytest -W default::DeprecationWarning -W ignore::pytest.PytestUnraisableExceptionWarning $(LOWEST_TESTS) $(PYTEST_ARGS)

constraints: $(DIST)/.done  ## write constraints.txt again: the newest versions that pyproject.toml allows; 1 min
	@mkdir -p build
	$(DIST)/bin/python -m pip install --disable-pip-version-check --quiet --dry-run --ignore-installed --report build/report.json \
		'pip>=25.1' '.[notify,postgres]' --group test --group check --group docs --group fuzz --group dist --group audit
	$(DIST)/bin/python .ci/pins.py tested build/report.json >build/constraints.txt
	mv build/constraints.txt constraints.txt

audit: $(AUDIT)/.done  ## known vulnerabilities of the versions in constraints.txt; asks a service; 1 min
	$(AUDIT)/bin/python -m pip_audit --strict --requirement constraints.txt --no-deps --disable-pip

dist: $(DIST)/.done  ## dist/: wheel, source archive and package, built twice and compared, with SBOMs and hashes; 2 min
	.ci/dist $(DIST)/bin/python

deb:  ## dist/roundsman_*.deb for this system's Python (DEB_PYTHON=/usr/bin/python3); 1 min
	debian/build $(or $(DEB_PYTHON),/usr/bin/python3)

clean:  ## remove what this file made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

# The parts that call libraries most: requests, answers, options, rows, the command line.
LOWEST_TESTS := tests/test_public.py tests/test_dist.py tests/test_config.py tests/test_http.py tests/test_wire.py tests/test_logs.py \
	tests/sources/test_parakey.py tests/sources/test_http_json.py tests/sinks/test_http_sink.py tests/sinks/test_notify.py \
	tests/web/test_receiver.py tests/web/test_metrics.py

# pip says nothing for a minute with --quiet, and a hundred lines without: show a count instead.
COUNTED := | awk '/^ *(Collecting|Building wheel) /{printf "\r\033[K  %d %s", ++n, $$2; fflush()} END {printf "\r\033[K"}'

$(PROGRAM): pyproject.toml
	@echo "Installing the program into $(VENV): about a minute, once"
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: apt install python3-venv" >&2; exit 1; }
	@# Dependency groups and editable installs need a pip that may be newer than Python's.
	@$(PIP) --quiet --upgrade 'pip>=25.1'
	@$(PIP) --editable . $(COUNTED)
	@rm -f $(VENV)/.program-*
	@touch $@

$(TOOLS): $(PROGRAM)
	@echo "Installing the tools for tests, checks and documentation"
	@$(PIP) --group test --group check --group docs $(COUNTED)
	@rm -f $(VENV)/.tools-*
	@touch $@

# An environment of one group: build/NAME-SUM/.done, of the group NAME.
$(DIST)/.done $(AUDIT)/.done: build/%-$(SUM)/.done:
	@rm -rf build/$*-[0-9]*
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --disable-pip-version-check --quiet --upgrade 'pip>=25.1' $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
	@$(@D)/bin/python -m pip install --disable-pip-version-check --quiet --group $* $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
	@touch $@

# The program itself is read from src: only its libraries are installed.
$(LOWEST)/.done:
	@rm -rf build/lowest-*
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --disable-pip-version-check --quiet --upgrade 'pip>=25.1'
	@$(PYTHON) .ci/pins.py lowest >build/lowest.txt
	@$(@D)/bin/python -m pip install --disable-pip-version-check --constraint build/lowest.txt --editable '.[notify,postgres]' --group test $(COUNTED)
	@touch $@
