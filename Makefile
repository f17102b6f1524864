# Everything that is set up lies in .venv, .venv-3.* (development) and .demo (the demonstration), safe to delete.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint types imports unit coverage versions generate capabilities benchmarks clean

help:
	@echo 'make demo         train and evaluate a real model on real data, from nothing'
	@echo 'make test         lint, types, import contract and every test, on the engines that this machine has'
	@echo 'make coverage     the same tests, and which lines none of them reached'
	@echo 'make versions     the unit tests on every supported Python that this machine has'
	@echo 'make generate     write schemas/ and docs/reference/ anew from the code'
	@echo 'make capabilities see which runner keeps which promise on the real engines, and write the table of it'
	@echo 'make benchmarks   measure what the README claims'
	@echo 'make clean        remove what the other targets set up'

demo:
	@PYTHON='$(PYTHON)' sh examples/demo.sh

test: lint types imports unit

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

imports: $(VENV)/.ready
	$(BIN)/lint-imports

PYTEST_ARGUMENTS ?= -n auto
# With AGAIN (arguments for pytest), tests that failed beside others are run again alone; what fails twice has failed.
AGAIN ?=

unit: $(VENV)/.ready
	$(BIN)/pytest $(PYTEST_ARGUMENTS) || { [ $$? -eq 1 ] && [ -n "$(AGAIN)" ] && \
	  $(BIN)/pytest --last-failed --last-failed-no-failures none $(AGAIN); }

# Every `cube` that a test starts is measured too, which makes most of them three times as slow.
coverage: $(VENV)/.ready
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGUMENTS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

VERSIONS := 3.10 3.11 3.12 3.13

versions: $(VERSIONS:%=.unit-%)

# A Python that is not here is passed over. What pyenv installed is found also where it is not chosen.
.unit-%: $(VENV)/.ready
	@for python in "$$HOME"/.pyenv/versions/$*.*/bin/python python$*; do \
	  "$$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$*")' 2>/dev/null || continue; \
	  echo "tests/unit on $$("$$python" --version)"; \
	  if [ ! -f .venv-$*/.ready ] || [ pyproject.toml -nt .venv-$*/.ready ]; then \
	    $(BIN)/uv venv --quiet --clear --python "$$python" .venv-$* && \
	    $(BIN)/uv pip install --quiet --python .venv-$*/bin/python --editable '.[local]' --group dev && \
	    touch .venv-$*/.ready || exit 1; \
	  fi; \
	  tests=".venv-$*/bin/python -m pytest --quiet -o cache_dir=.venv-$*/pytest tests/unit"; \
	  $$tests $(PYTEST_ARGUMENTS) || { [ $$? -eq 1 ] && [ -n "$(AGAIN)" ] && \
	    $$tests --last-failed --last-failed-no-failures none $(AGAIN); }; \
	  exit $$?; \
	done

generate: $(VENV)/.ready
	$(BIN)/python docs/generate.py

# Whatever fails is in the table as BROKEN. An engine that this machine has not is no column of it.
CAPABILITIES := .cache/capabilities.json

capabilities: $(VENV)/.ready
	@mkdir -p .cache
	-CUBE_CONFORMANCE_LARGE=1 $(BIN)/pytest --quiet $(PYTEST_ARGUMENTS) tests/conformance/test_runners.py \
	  -p mlcube.conformance.plugin --conformance-results $(CAPABILITIES)
	$(BIN)/python docs/capabilities.py $(CAPABILITIES)

benchmarks: $(VENV)/.ready
	@status=0; for each in run publish pull bundles zoo; do \
	  $(BIN)/python benchmarks/$$each.py || status=$$?; \
	done; exit $$status

clean:
	rm -rf $(VENV) $(VERSIONS:%=.venv-%) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'cube needs Python 3.10 or newer; name one with make PYTHON=python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[local]' --group dev
	@touch $@
