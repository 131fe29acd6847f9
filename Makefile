# make demo | test | test-whole | docs | bench | operators | results | budgets | wheel | lint: each sets up .venv by itself, once.
PYTHON ?= python3
# A plain "torch" may bring gigabytes of CUDA packages; this pin is the version measured in bench/results.
TORCH ?= torch==2.13.0
VENV ?= .venv
WHEELS ?= dist

BIN := $(VENV)/bin
READY := $(VENV)/.ready
LINTED := $(VENV)/.lint-ready
DOCUMENTED := $(VENV)/.docs-ready
SOURCES := pyproject.toml setup.py $(wildcard csrc/*.cpp csrc/*/*)

.PHONY: demo test test-whole docs bench operators results budgets wheel lint format clean

demo: $(READY)
	$(BIN)/python -m pydisent demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# All generated cases, of which `make test` runs a third, by turns from commit to commit.
test-whole: $(READY)
	OMP_NUM_THREADS=1 PYDISENT_WHOLE=1 $(BIN)/python -m pytest -n auto --dist worksteal

# The site, in docs/_build/html. Pages with programs run them.
docs: $(DOCUMENTED)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: $(READY)
	$(BIN)/python bench/power_iteration.py
	$(BIN)/python bench/density.py
	$(BIN)/python bench/covariance.py
	$(BIN)/python bench/metrics.py
	$(BIN)/python bench/alignment.py
	$(BIN)/python bench/small.py
	$(BIN)/python bench/regularizers.py

# Every differentiable operator of PyTorch through the Jacobian engine, and whether PyTorch's own
# derivatives are still as measured: ten minutes on two cores.
operators: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python bench/operators.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/derivatives.py
	OMP_NUM_THREADS=1 PYDISENT_WHOLE=1 $(BIN)/python -m pytest -n auto tests/jacobian/test_torch_probes.py

# The README's tables and the pictures, from the committed JSON.
results: $(READY)
	$(BIN)/python bench/readme.py

# What each kernel takes of a GPU; shows what changed. It needs nvcc, but no GPU.
budgets: $(READY)
	$(BIN)/python bench/budgets.py --write

# One for this Python and any torch from 2.11 on, as the kernels use torch's stable ABI alone; with
# the oldest system that it runs on.
wheel: $(LINTED)
	$(BIN)/python -m build --wheel --no-isolation --outdir $(WHEELS) .
	$(BIN)/python -m auditwheel show $(WHEELS)/*.whl

lint: $(LINTED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(LINTED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pydisent needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No venv: on Debian, apt-get install python3-venv"; exit 1; }

$(READY): $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) "setuptools>=77" wheel ninja pybind11
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e ".[test]"
	$(BIN)/python -m pydisent info
	@touch $@

# An extra's packages by themselves: pip would build pydisent again.
packages_of = $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"], sep="\n")' | \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin

$(LINTED): $(READY) pyproject.toml
	$(call packages_of,lint)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build auditwheel
	@touch $@

$(DOCUMENTED): $(READY) pyproject.toml
	$(call packages_of,docs)
	@touch $@

clean:
	rm -rf $(VENV) docs/_build build dist *.egg-info pydisent/*.so
