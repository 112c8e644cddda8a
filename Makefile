# Everything sets itself up: a fresh clone, Python 3.11 and its venv module are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cksum pyproject.toml | cut -d' ' -f1)

.PHONY: help demo test test-systemd check bench profile soak fuzz proof mutants deb clean
.DEFAULT_GOAL := help

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(READY)  ## 30 seconds of a made-up company at three vendors, watched by the real daemon
	$(BIN)/roundsman demo --for 30s

test: $(READY)  ## all tests, two files at a time
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

test-systemd: $(READY)  ## those in a booted systemd: as root, with debootstrap and systemd-container
	$(BIN)/python -m pytest tests/systemd $(PYTEST_ARGS)

check: $(READY)  ## format, lint and types
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(BIN)/vulture

bench: $(READY)  ## our figures beside the bare tools', in one table; QUICK=1: with small amounts; ROWS="backlog poll": only these rows
	$(BIN)/python tests/benchmarks/run.py $(if $(QUICK),quick) $(ROWS)

profile: $(READY)  ## where a backlog's time goes, function by function
	$(BIN)/python tests/benchmarks/profiled.py $(or $(EVENTS),100000)

soak: $(READY)  ## a year of rounds of twenty sources, one an hour, in simulated time: some minutes
	ROUNDSMAN_SOAK_HOURS=$(or $(HOURS),1) $(BIN)/python -m pytest -s tests/test_soak.py

fuzz: $(READY)  ## whatever a webhook may say, for SECONDS=60, by a fuzzer that watches the code
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=2.3'
	cd tests && ../$(BIN)/python fuzz.py -max_total_time=$(or $(SECONDS),60) -max_len=8192

proof: $(READY)  ## what proves by number, with its whole budget: kills, power cuts, failing disks, simulations, fuzzing; hours
	ROUNDSMAN_CUTS=400 ROUNDSMAN_KILLS=400 ROUNDSMAN_SIMULATIONS=1000 $(BIN)/python -m pytest -s \
		tests/test_power.py tests/test_kill.py tests/test_simulation.py tests/test_simulation_vendors.py tests/test_simulation_lists.py \
		tests/test_fuzz.py
	$(MAKE) soak
	$(MAKE) fuzz SECONDS=1800

mutants: $(READY)  ## changes in FILE that no test notices: N=60 of them, by SEED=1; under 20 minutes
	$(BIN)/python tests/mutants.py $(FILE) --count $(or $(N),60) --seed $(or $(SEED),1)

deb:  ## dist/roundsman_*.deb, for this system's own Python (DEB_PYTHON=/usr/bin/python3)
	debian/build $(or $(DEB_PYTHON),/usr/bin/python3)

clean:  ## remove what this file made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

# pip's own version may be as old as Python's: it learns dependency groups first.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group test --group check
	@rm -f $(VENV)/.ready-*
	@touch $@
