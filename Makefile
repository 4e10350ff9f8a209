# `make` tells what there is. PYTHON=python3.13 chooses the interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILED := $(VENV)/compiled
SOURCES := $(shell find gateway protocols sample_apps -type f -not -name "*.pyc")
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# More than there are cores: they wait a lot.
PYTEST := $(BIN)/pytest -n 3 --dist loadscope

# What is compiled has to behave as its source does; who runs it, a loop or threads, was tested before.
TESTS_OF_COMPILED := $(addprefix tests/,behaviour crosstalk drivers peers protocols rules samples)

.PHONY: help demo test lint bench peers peers-of-bench clean

help:
	@echo "make demo    the sample applications on http://127.0.0.1:8000/ (PORT=8080 for another port)"
	@echo "make test    style, types, and all tests; installs other servers to test against (Debian)"
	@echo "make lint    style and types only"
	@echo "make bench   the gateway beside others, in ratios: 50 minutes (BENCH='apps --rounds 5' for a part, BENCH=--help)"
	@echo "make clean   removes $(VENV) and caches"

# The stamps are newer than pyproject.toml when nothing has to be installed. A newer Python than
# the one that made the environment is not noticed: `make clean` first.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gateway-suite needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python -m venv failed: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing gateway-suite into $(VENV)"
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "installing gateway-suite and its test tools into $(VENV)"
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/.installed-test
	@echo "installing the application servers that ours is measured beside: about a minute, uWSGI is compiled"
	@$(PIP) install --editable '.[bench]'
	@touch $@

# The package as a user gets it from `pip install .`: the way of a request compiled, and nowhere near the sources.
$(COMPILED)/.made: pyproject.toml $(SOURCES) | $(VENV)/.installed-test
	@echo "compiling gateway-suite into $(COMPILED): about a minute"
	@rm -rf $(COMPILED) build
	@$(PIP) install --no-deps --no-build-isolation --target $(COMPILED) .
	@$(BIN)/python -P -c 'import sys; sys.path.insert(0, "$(COMPILED)"); import gateway; sys.exit(not gateway.is_compiled())' \
		|| { echo "nothing was compiled: a C compiler (Debian: gcc) is missing, or see '$(PIP) install -v .'" >&2; exit 1; }
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/gateway demo $(if $(PORT),--port $(PORT))

peers:
	@PYTHON=$(PYTHON) .ci/install-peers

peers-of-bench:
	@PYTHON=$(PYTHON) .ci/install-peers nginx-light lighttpd apache2-bin haproxy caddy h2o wrk gcc libc6-dev python3-dev

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --strict sample_apps/cgi-bin/*.py

test: peers lint
	$(PYTEST)
	@$(MAKE) --no-print-directory $(COMPILED)/.made
	MODELS="event threadpool" $(PYTEST) -o pythonpath="$(COMPILED) ." $(TESTS_OF_COMPILED)

bench: peers-of-bench $(VENV)/.installed-bench $(COMPILED)/.made
	@PYTHONPATH=$(COMPILED):. $(BIN)/python -P -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
