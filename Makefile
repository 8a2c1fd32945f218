# make demo   sets up, trains on the bundled digits, draws, writes demo/report.html
# make test   sets up and runs the tests
# make run    sets up and opens the desktop window
# make lint   ruff, import rules, types

PYTHON ?= python3
# The release that benchmarks/RESULTS.md was measured with. TORCH=torch takes the newest.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find core workbench plugins resources -type f -not -path '*/__pycache__/*' 2>/dev/null)

.PHONY: demo test run lint format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/imagen-workbench demo

run: $(VENV)/.installed
	@sh .ci/system-packages window
	$(BIN)/imagen-workbench

test: $(VENV)/.installed-for-tests
	@sh .ci/system-packages window tests
	sh .ci/test $(TESTS)

lint: $(VENV)/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/wheel .
	$(BIN)/pyright --warnings --pythonpath $(BIN)/python

format: $(VENV)/.installed-for-tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/.made: .ci/system-packages
	@sh .ci/system-packages python
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.requirements: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet '$(TORCH)' .
	touch $@

$(VENV)/.test-requirements: $(VENV)/.requirements
	$(BIN)/python -m pip install --quiet --group test --group lint
	touch $@

# The wheel itself, not an editable link: what is tested is what people get.
$(VENV)/.installed: $(VENV)/.requirements $(SOURCES) README.md
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall .
	touch $@

$(VENV)/.installed-for-tests: $(VENV)/.test-requirements $(VENV)/.installed
	touch $@
