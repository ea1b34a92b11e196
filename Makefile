# The commands of this repository. All of them need Python >= 3.11, make and git; what else they need they put into .venv,
# locked by hash. What is installed once is not asked for again: a second run needs no network.

VENV := .venv
BIN := $(VENV)/bin
CORE := tests/unit/domain
FAST := $(wildcard tests/unit tests/property tests/simulation tests/docs tests/project)
APART := tests/chart tests/image tests/install tests/page tests/release tests/benchmarks
# Two at a time, and the tests of one file in one process: many wait, and few need more than a core. Those that wait for
# Kafka come first, in the order of the folders, so that the many small files at the end keep both processes busy.
ABREAST := -n 2 --dist loadfile --no-loadscope-reorder

# The first Python that is new enough. Another one: make PYTHON=/path/to/python …
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

# The environment is made again when its Python or its pip is gone or too old, when it is another clone's (its programs name the
# folder that they were made for: who copies a clone would run the first one's code), and when another Python is asked for by name.
OLD := import sys; sys.exit(sys.version_info < (3, 11))
ALIEN := import os, sys; sys.exit(os.fsencode(sys.prefix + "/bin/") not in open(sys.prefix + "/bin/pip", "rb").read())
WHICH := import sys; print(sys.base_prefix, sys.version)
STALE := $(shell test ! -e $(VENV)/pyvenv.cfg || { $(BIN)/python -c '$(OLD)' 2>/dev/null && \
	$(BIN)/python -c '$(ALIEN)' 2>/dev/null && has=$$($(BIN)/python -c '$(WHICH)' 2>&1) && { test '$(origin PYTHON)' = file || test "$$has" = "$$($(PYTHON) -c '$(WHICH)' 2>&1)"; }; } || echo STALE)

.DEFAULT_GOAL := help
.PHONY: help venv demo test bench check fmt lint type core unit docs lock clean chart-tools chart-test kafka-matrix image-tools image-test image-faults page-tools page-test install-test release-check STALE

help:  ## What there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv: $(VENV)/dev.installed  ## The virtual environment, with everything that checks and tests need

demo: $(VENV)/demo.installed  ## The product in a minute: a real Kafka, a local Tencent API, a raid in trouble (DEMO="--no-trouble")
	@$(BIN)/moderation-worker demo $(DEMO)

check: lint type unit  ## Style, types, who imports whom, fast tests, the coverage of the core

fmt: $(VENV)/dev.installed  ## Formats the code, and fixes what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(VENV)/dev.installed  ## Style, and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/dev.installed  ## Types
	$(BIN)/mypy

unit: core  ## The fast tests, and the coverage of the core
	$(BIN)/pytest $(FAST) -q $(ABREAST) --ignore=$(CORE)

core: $(VENV)/dev.installed
	$(BIN)/pytest $(CORE) -q $(ABREAST) --cov=worker.domain --cov-report=term --cov-fail-under=100

ifdef TESTS
test: $(VENV)/dev.installed
	$(BIN)/pytest $(TESTS)
else
test: core  ## All tests, with a real Kafka (TESTS="tests/process -k kill")
	$(BIN)/pytest tests -q $(ABREAST) $(APART:%=--ignore=%) --ignore=$(CORE) -m "not alone"
	$(BIN)/pytest tests -q $(APART:%=--ignore=%) --ignore=$(CORE) -m alone
endif

# What depends on the broker: the contract of the adapters, and a raid in which replicas are killed.
MATRIX := tests/contract/broker/test_consuming.py tests/contract/broker/test_publishing.py tests/contract/broker/test_restoring.py \
	tests/contract/broker/test_command_history.py tests/contract/broker/test_topics.py tests/process/test_raid.py
MATRIX_TESTS := not memory and not 10_000 and not frozen and not backlog and not asked

kafka-matrix: $(VENV)/dev.installed  ## What depends on the broker, on each version of Kafka in tests/kafka_versions
	@for lock in $(wildcard tests/kafka_versions/*.lock); do echo "== $$(head -1 $$lock | cut -d' ' -f5-7)" && \
	TEST_KAFKA_LOCK=$$lock $(BIN)/pytest -q $(MATRIX) -k "$(MATRIX_TESTS)" || exit 1; done

# What the benchmarks compare with is not of the project, so it has an environment of its own. Without it that baseline is left out.
bench: $(VENV)/dev.installed  ## Figures beside what one would write oneself, in a quarter of an hour (BENCH="--only a,g --runs 1", BENCH=--help)
	@$(MAKE) --silent VENV=.venv-bench .venv-bench/bench.installed || true
	@$(BIN)/python -m tests.benchmarks $(BENCH)

docs: $(VENV)/dev.installed  ## Writes what is made from the code: schemas, example settings, reference pages, the version
	$(BIN)/python -m tests.docs.pages
	$(BIN)/python -m config.grafana.make_dashboard
	$(BIN)/python -m helm.make_readme

chart-tools: $(VENV)/dev.installed  ## What chart-test needs (as root on Debian, and Go)
	$(BIN)/python -m tests.chart.toolchain

chart-test: chart-tools  ## The chart, on a real API server
	$(BIN)/pytest tests/chart $(ABREAST)

page-tools: $(VENV)/dev.installed  ## What page-test needs: Chromium (as root on Debian), and axe-core (npm)
	$(BIN)/python -m tests.page.toolchain

page-test: page-tools  ## The page at /, in a real browser (PAGE_PICTURES=folder keeps pictures of it)
	$(BIN)/pytest tests/page -q

install-test: $(VENV)/dev.installed  ## Each lock from nothing, and the core's tests, on each Python that is claimed and here
	$(BIN)/python -m tests.install.pythons
	$(BIN)/pytest tests/install -n 2 --dist loadgroup

image-tools: $(VENV)/dev.installed  ## What image-test needs besides (as root on Debian)
	$(BIN)/python -m tests.image.toolchain

image-test: chart-tools image-tools  ## The image, built and run (as root on Debian)
	$(BIN)/pytest tests/image --ignore=tests/image/test_faults.py

image-faults: chart-tools image-tools  ## That these tests find what is put wrong into the Dockerfile on purpose
	$(BIN)/pytest tests/image/test_faults.py

release-check: chart-tools image-tools  ## What a release publishes, made and looked at without a registry (as root on Debian)
	$(BIN)/pytest tests/release $(ABREAST)

# Each lock holds the one before it, so that they can share one environment; the benchmarks' has one of its own.
LOCK = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options $(UPGRADE)

lock: $(VENV)/dev.installed  ## The locks of all requirements (UPGRADE=--upgrade for newer versions)
	$(LOCK) --only-build-deps --build-deps-for wheel --output-file requirements-build.txt pyproject.toml
	$(LOCK) --constraint requirements-build.txt --output-file requirements.txt pyproject.toml
	$(LOCK) --constraint requirements-build.txt --constraint requirements.txt --extra demo \
		--output-file requirements-demo.txt pyproject.toml
	$(LOCK) --constraint requirements-build.txt --constraint requirements.txt --extra msk-iam \
		--output-file requirements-msk-iam.txt pyproject.toml
	$(LOCK) --constraint requirements-build.txt --constraint requirements-demo.txt --constraint requirements-msk-iam.txt \
		--extra demo --extra msk-iam \
		--output-file requirements-dev.txt pyproject.toml requirements-dev.in
	$(LOCK) --constraint requirements-build.txt --constraint requirements.txt \
		--output-file requirements-bench.txt pyproject.toml requirements-bench.in

clean:  ## Removes what make and the tools made here (what was fetched for Kafka stays in ~/.cache/moderation-worker)
	rm -rf $(VENV) .venv-bench build dist *.egg-info .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One dependency has no wheel: it is built with the locked setuptools, not with what an isolated build would fetch unhashed.
# pip tells what it fetches to a person, and nothing to a log.
$(VENV)/%.installed: requirements-build.txt requirements-%.txt pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing requirements-$*.txt into $(VENV) (once)"
	@if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; export PYTHONWARNINGS=ignore; pip="$(BIN)/python -m pip install --disable-pip-version-check $$quiet"; \
	$$pip --no-deps --require-hashes --requirement requirements-build.txt && \
	$$pip --no-deps --require-hashes --no-build-isolation --use-pep517 --requirement requirements-$*.txt && \
	$$pip --no-deps --no-index --no-build-isolation --editable . && \
	$(BIN)/python -m pip --disable-pip-version-check check
	@touch $@

$(VENV)/pyvenv.cfg: $(STALE)
	@$(or $(PYTHON),false) -c '$(OLD)' 2>/dev/null || { echo "make needs Python >= 3.11: install it, or make PYTHON=/path/to/python $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "Python's venv is missing: on Debian, apt install python3-venv"; exit 1; }
