# Two commands do all the set-up on a bare Debian with Python 3.11 and a C++ compiler: make run, make test.
PYTHON ?= python3
BIN = .venv/bin
KERNELS = $(shell find src/prunecell/native -name '*.cpp' -o -name '*.h')

.PHONY: run test check sanitize format clean

run: .venv/installed  ## the main job: MNIST, LeNet, gradual pruning, the small file, the report
	$(BIN)/prunecell run examples/lenet.ini --out runs/lenet

test: .venv/installed-dev  ## all tests
	$(BIN)/pytest -n 2 --dist worksteal

check: .venv/installed-dev  ## lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

sanitize: .venv/installed-dev  ## the kernels under AddressSanitizer and UndefinedBehaviorSanitizer, with their own tests
	$(BIN)/python tools/sanitize.py

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt setup.py $(KERNELS)
	$(BIN)/pip install -q -c constraints.txt -e '.[data,picture]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist runs src/*.egg-info src/prunecell/native/*.so
