# `make demo` fine-tunes the bundled model; `make test` runs the tests; `make docs` builds the documentation's site into site/. Each
# builds the environment it needs in .venv.
PYTHON ?= python3
VENV := .venv
RUN ?= runs/demo

demo: $(VENV)/ready
	$(VENV)/bin/vgrpo train sprites --gpus auto --output-dir $(RUN)

test: $(VENV)/ready-dev
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: $(VENV)/ready-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(VENV)/ready-docs
	$(VENV)/bin/python docs/build.py

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(VENV)/bin/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

$(VENV)/ready-docs: $(VENV)/ready
	$(VENV)/bin/pip install -q -c constraints.txt -e ".[docs]"
	touch $@

.PHONY: demo test check docs
