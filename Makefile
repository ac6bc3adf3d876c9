# Everything a fresh Debian 12 with root, git, make and python3-venv needs: each target installs what it misses.
# One virtual environment, .venv, made and kept current here.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LAB ?= /tmp/slurm-power-demo
REPORT ?= demo-report.html

.PHONY: help venv packages demo demo-containers test test-slurm-versions check check-all lint bench search bench-forecast bench-plan bench-reaction bench-slurm bench-tiers bench-gateway bench-web bench-openadr bench-faults bench-fuzz cluster-up cluster-down clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

venv: $(STAMP) ## Make or refresh .venv

$(STAMP): pyproject.toml Makefile
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	# What its callers set for their own Python (PYTHONHOME and such) must not keep psbatch from starting.
	@sed -i '1s/^#!.*python[0-9.]*$$/& -I/' $(BIN)/psbatch
	@touch $@

packages: ## Install the Debian packages of the test bed
	containers/install-packages.sh build cluster accounting snmp stores gateway browser

demo: $(STAMP) ## A peak shaved on a real cluster with a simulated plant (writes demo-report.html)
	containers/install-packages.sh build cluster
	$(BIN)/python -m containers.demo --report $(REPORT) $(DEMO_OPTIONS)

demo-containers: $(STAMP) ## The same scenario in containers
	containers/install-packages.sh build engine
	containers/run-demo.sh $(DEMO_OPTIONS)

lint: $(STAMP) ## Formatters, linters, types, layers, shell and C
	containers/install-packages.sh build
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH=$(BIN):$$PATH .ci/lint-sources

# These only calculate, with what the others leave of the machine. Those watch clocks and mostly wait, beside each other;
# those of the closed loop share a lab. What fails beside others is judged once more, alone (docs/decisions/0127).
CALCULATING = tests/forecast tests/forecaster tests/docs tests/model tests/plan tests/report tests/signals tests/simulate \
	tests/config $(wildcard tests/tiers/test_*.py) tests/tiers/building tests/wire tests/cli/test_backtest.py tests/cli/test_backtest_jobs.py tests/cli/test_forecast.py \
	tests/cli/test_fan_text.py tests/cli/test_export.py tests/cli/test_simulate_ess.py tests/cli/test_simulate_jobs.py \
	tests/cli/test_simulate_event.py tests/cli/test_authority.py tests/cli/test_events.py tests/cli/test_explain.py \
	tests/cli/test_option_forms.py tests/cli/test_psbatch_dry.py tests/cli/test_psbatch_places.py tests/cli/test_psbatch_manual.py \
	tests/cli/test_simulate_ess_limits.py tests/cli/test_alerts.py tests/cli/test_governance.py tests/cli/test_report_month.py \
	tests/cli/test_report_shadow.py tests/cli/test_statements.py tests/bridge/test_http_rows.py $(wildcard tests/bridge/test_alert_rules.py tests/bridge/test_alert_book.py) \
	tests/bridge/test_grid_events.py $(wildcard tests/bridge/test_openadr3_*.py) tests/web_page/test_sources.py \
	tests/controller/test_expect_answer.py tests/cli/test_plan.py tests/cli/test_why.py tests/store/test_sqlite.py tests/store/test_private.py \
	$(patsubst %,tests/node/test_%.py,beat frames host leases leases_stateful mig saved_settings) \
	$(patsubst %,tests/controller/test_%.py,circuits day_plan event_desk fairness_desk job_energy job_expectations \
	job_gains job_records kept_levers levers load_feed plan_answer planner_beat rack_feed recorder repeats sources start_watch)
# Of those, the files that name properties.
SEARCHED = $(shell grep -rl --include='*.py' '^from hypothesis' $(CALCULATING))
# These take both cores, and others' clocks would feel it.
LOADING = tests/advice tests/gateway tests/tiers/evaluating tests/web_page
# These wait for Slurm, PostgreSQL and other servers, and watch no clock closely: they run beside the rest and the closed loop.
# So many of the closed loop's run with these that each stream takes as long.
LOOP_TOO = $(wildcard tests/loop/test_s*.py tests/loop/test_t*.py)
WAITING = tests/compat tests/install tests/slurm tests/spank tests/store tests/web tests/bridge
STREAMS = $(BIN)/python -m tests.streams
COMMON = -m "not containers and not hardware and not slow and not versions" $(PYTEST_OPTIONS)
# Two threads of torch's that spin take each other's core.
test: export OMP_NUM_THREADS = 1
test: $(STAMP) packages ## All tests that belong to every change
	$(BIN)/python -m coverage erase
	status=0; $(STREAMS) 'loading=$(LOADING)' -- $(COMMON) || status=1; \
	$(STREAMS) 'loop=tests/loop $(addprefix --ignore=,$(LOOP_TOO))' \
		'waiting=$(LOOP_TOO) $(WAITING) $(addprefix --ignore=,$(CALCULATING))' \
		'rest=$(addprefix --ignore=,tests/loop $(LOADING) $(WAITING) $(CALCULATING))' \
		'calculating~=-n 2 --dist worksteal --timeout 900 $(CALCULATING)' -- $(COMMON) || status=1; \
	exit $$status
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=80 --skip-covered --format=total
	$(BIN)/python -m coverage report --fail-under=95 \
		--include='slurm_power/model/lease.py,slurm_power/node/leases.py,slurm_power/node/saved_settings.py,slurm_power/node/watchdog.py,slurm_power/node/leftovers.py'

# What speaks with Slurm itself, on others than the host's: VERSIONS=24.11 for one of them alone.
VERSIONS ?= 24.11 26.05
ON_VERSIONS = tests/versions tests/compat tests/slurm/test_scheduler_cluster.py tests/slurm/test_relocation_cluster.py tests/slurm/test_admission_cluster.py \
	tests/loop/test_job.py tests/loop/test_holds.py tests/spank/test_scenarios.py
test-slurm-versions: $(STAMP) packages ## The tests that speak with Slurm, on 24.11 and 26.05 from Debian 13 and testing
	containers/install-packages.sh versions
	$(BIN)/python -m containers.versions $(VERSIONS) || [ $$? -eq 3 ]
	status=0; \
	for version in $(VERSIONS); do \
		echo "== Slurm $$version"; \
		SLURM_POWER_TEST_VERSION=$$version $(BIN)/python -m pytest $(wildcard $(ON_VERSIONS)) $(PYTEST_OPTIONS) || status=1; \
	done; \
	exit $$status

check: lint test ## What CI runs

search: $(STAMP) ## Look for examples that no test has met yet (10 minutes)
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(SEARCHED) $(PYTEST_OPTIONS)

check-all: check ## And what takes longer: the container images, the training frameworks, a pre-trained family
	containers/install-packages.sh engine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,frameworks,tiers-gpu]'
	$(BIN)/python -m pytest -m "containers or slow" tests
	$(MAKE) search
	$(MAKE) bench-tiers PRETRAINED=1

bench: $(STAMP) ## Figures for docs/benchmarks.md
	containers/install-packages.sh build cluster snmp
	$(BIN)/python -m containers.bench $(if $(DATA),--data $(DATA))

bench-forecast: $(STAMP) ## How well known series and jobs would have been forecast; exit 1 if worse than promised (DATA=DIR)
	$(if $(DATA),,$(error say where the series are: make bench-forecast DATA=DIR))
	$(BIN)/python -m containers.bench.forecast --data $(DATA) --plant-seeds 3
	$(BIN)/python -m containers.bench.forecast_worker

bench-plan: $(STAMP) ## Battery, caps and holds against perfect foresight, and the planner's size; exit 1 if worse than promised (DATA=DIR)
	$(if $(DATA),,$(error say where series and jobs are: make bench-plan DATA=DIR))
	status=0; \
	$(BIN)/python -m containers.bench.ess_level --data $(DATA) || status=1; \
	$(BIN)/python -m containers.bench.jobs_level --data $(DATA) || status=1; \
	$(BIN)/python -m containers.bench.plan_scale --figure docs/figures/plan-scale.svg || status=1; \
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m containers.bench.cap_prices --check || status=1; \
	exit $$status

bench-reaction: $(STAMP) ## Grid events of 30 % and a massive start on a live lab, with and without ESS (40 minutes)
	containers/install-packages.sh build cluster
	status=0; \
	$(BIN)/python -m containers.bench.reaction || status=1; \
	$(BIN)/python -m containers.bench.start_gate || status=1; \
	exit $$status

bench-slurm: $(STAMP) ## What Slurm pays: hooks, plugin, scheduler port at 10,000 jobs, and what jobs meet in each fault (25 minutes)
	containers/install-packages.sh build cluster
	status=0; \
	$(BIN)/python -m containers.bench.hooks || status=1; \
	$(BIN)/python -m containers.bench.scheduler || status=1; \
	$(BIN)/python -m containers.bench.slurm_faults || status=1; \
	exit $$status

# PRETRAINED=1: a second family from a real pre-trained model that comes as a package, too.
bench-tiers: export OMP_NUM_THREADS = 1
bench-tiers: $(STAMP) ## The ladders of model tiers; exit 1 if they cost more than promised (2 CPU-minutes)
	status=0; \
	$(BIN)/python -m containers.bench.tiers --figure docs/figures/tiers-digits.svg || status=1; \
	$(BIN)/python -m containers.bench.text_tiers || status=1; \
	$(if $(PRETRAINED),$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,frameworks]' && $(BIN)/python -m containers.bench.sections_tiers || status=1;) \
	exit $$status

bench-web: $(STAMP) ## What hundreds of browsers cost the control loop; exit 1 if more than promised (3 minutes)
	$(BIN)/python -m containers.bench.web

bench-openadr: $(STAMP) ## From an event at the VTN to the first command and to the meter, for both OpenADRs (10 minutes)
	containers/install-packages.sh build cluster
	$(BIN)/python -m containers.bench.openadr

bench-gateway: $(STAMP) ## A service's tier changed under load, with its parts killed; exit 1 if worse than promised (2 minutes)
	containers/install-packages.sh gateway
	$(BIN)/python -m containers.bench.gateway

# SEED: of the first trial. RESUME=FILE: go on where a run was cut off. MUTATION: spoil a copy of the product first; see --help.
FAULT_OPTIONS = $(if $(SEED),--seed=$(SEED)) $(if $(RESUME),--resume=$(RESUME)) $(if $(MUTATION),--mutation=$(MUTATION))
bench-faults: $(STAMP) ## 10,000 fault trials; exit 1 if a cap or a ledger row leaks (SEED=, RESUME=, MUTATION=)
	containers/install-packages.sh build cluster
	$(BIN)/python -m containers.faults $(FAULT_OPTIONS)

bench-fuzz: $(STAMP) ## A million spoiled messages at every door; exit 1 if anybody falls over (SEED=)
	$(BIN)/python -m containers.faults.fuzz $(if $(SEED),--seed=$(SEED))

cluster-up: $(STAMP) ## Leave the demo cluster running, for trying things by hand
	containers/install-packages.sh build cluster
	$(BIN)/python -m containers.cluster up --dir $(LAB) --power

cluster-down: $(STAMP) ## Stop it
	$(BIN)/python -m containers.cluster down --dir $(LAB)

clean: ## Remove what these targets made here
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
