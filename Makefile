# make quickstart: install, then the main job on the embedded sample. make test: install, then every test of seconds;
# make test-all: those of minutes too.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA ?= sample:nuclei

.PHONY: quickstart test test-all test-gpu fuzz lint bench install clean

install: $(STAMP)

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "kseg needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/kseg quickstart --out runs/quickstart

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two processes: most tests wait for one core; a file stays in one process, as its tests share a trained network.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The tests of minutes take gigabytes each (every network at full size, in every format), so one after the other.
test-all: test
	$(BIN)/python -m pytest -m slow

# The proof of a machine with a GPU, 8 minutes after the install. Reduced, without a GPU: make test-gpu
# GPU_ARGS=--cpu-rehearsal. With an environment of one's own (Keras and one backend): make test-gpu GPU_PYTHON=python3
GPU_ARGS ?=
ifdef GPU_PYTHON
test-gpu:
	$(GPU_PYTHON) -m benchmarks.gpu $(GPU_ARGS)
else
test-gpu: $(STAMP)
	$(if $(findstring --cpu-rehearsal,$(GPU_ARGS)),,$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[gpu]')
	$(BIN)/python -m benchmarks.gpu $(GPU_ARGS)
endif

# Spoiled files and arguments, kills, full disks, threads and bombs, the table goes to
# benchmarks/results/fuzz.md. A part of it: make fuzz FUZZ_ARGS="--cases 1000 --seconds 600 --kinds onnx,png"
FUZZ_ARGS ?=
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/campaign.py $(FUZZ_ARGS)

bench: $(STAMP)
	$(BIN)/python benchmarks/input_pipeline.py --data $(DATA)
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/large_image.py
	$(BIN)/python benchmarks/dense_vs_sliding.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
