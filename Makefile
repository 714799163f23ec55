# `make demo` and `make test` install what they need first, into .venv.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# Small tensors gain nothing from more threads than this.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
export OMP_NUM_THREADS ?= $(shell test $(CORES) -lt 4 && echo $(CORES) || echo 4)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format docs clean

help:
	@echo "make demo      install, then fit, sample, condition, impute and report on a built-in survey"
	@echo "make test      install, then run the tests"
	@echo "make lint      install, then check style, types and imports"
	@echo "make format    put the code into the project's style"
	@echo "make docs      write docs/methods.md from the registry of methods"
	@echo "make clean     remove what was installed and built"

install: $(INSTALLED)

# torch comes first and by its exact version, so that the package's own open range never fetches another build.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(BIN)/clarkia demo

# A process a core, each with one thread; tests of a file stay together, so that what they share is made once. Files are
# taken in order, the longest first, and not by how many tests they hold.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(shell test $(CORES) -lt 8 && echo $(CORES) || echo 8) --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python -c 'from clarkia.cite import page; print(page(), end="")' > docs/methods.md.partial
	mv docs/methods.md.partial docs/methods.md

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
