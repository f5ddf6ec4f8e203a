# One definition of each command that people, CI and pre-commit run.

PYTHON ?= python3
VENV ?= .venv
# mmpretrain needs torchvision, and with it another build of torch.
CLASSIFICATION_VENV ?= .venv-classification
# The other family of the host has the same import names.
OPENMMLAB_VENV ?= .venv-openmmlab
# Processes of pytest, one thread each so that they do not compete for cores.
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := constraints/onedl.txt
INSTALL := $(PIP) install --constraint $(CONSTRAINTS)
PYTEST := python -m pytest --numprocesses $(WORKERS)
# Third-party networks that tests compare with. pytorchcv requires torchvision, which
# they do not use, and whose build for CUDA does not load beside a torch for CPUs.
ORACLES := pytorchcv
PACKAGE_FILES := pyproject.toml setup.py mmseg_dynet/version.py $(CONSTRAINTS)

# Pages with tables that cog writes, and where their code imports from.
TABLES = $(shell grep -rl --include='*.md' '\[\[\[cog' README.md docs configs projects)
COG_PATH = benchmarks:projects/camvid_study:projects/evidence:projects/paper_figures
COG := PYTHONPATH=$(COG_PATH) $(BIN)/cog

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env demo test test-all test-classification test-openmmlab test-kills \
	lint format docs tables check-docs wheel clean

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=$(PYTHON) creates the environment VENV=$(VENV); both can be set."

env: $(VENV)/.env  ## Create the environment: the package and its tested host

# Let waiting threads yield their core. If they spin, training is much slower as soon as
# anything else runs.
demo: export OMP_WAIT_POLICY := PASSIVE
demo: $(VENV)/.env  ## Train Dy-ResNet-18 and its static twin on synthetic streets, compare
	$(BIN)/python projects/synthetic_streets/demo.py

test: $(VENV)/.test  ## Run the tests, except those marked slow
	OMP_NUM_THREADS=1 $(BIN)/$(PYTEST) -m "not slow"

test-all: $(VENV)/.test  ## Run all tests: every network under every way to run it
	OMP_NUM_THREADS=1 $(BIN)/$(PYTEST)

test-classification: $(CLASSIFICATION_VENV)/.classification  ## Test ImageNet pretraining, with mmpretrain
	OMP_NUM_THREADS=1 $(CLASSIFICATION_VENV)/bin/$(PYTEST) tests/classification

test-openmmlab: $(OPENMMLAB_VENV)/.openmmlab  ## Test with OpenMMLab's own packages and torch 2.1; builds mmcv
	OMP_NUM_THREADS=1 $(OPENMMLAB_VENV)/bin/$(PYTEST) -m "not slow"

test-kills: $(VENV)/.test  ## Kill a training 24 times and compare its end with an undisturbed one
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore \
		projects/reproducible_training/kill_resume.py --kills 24

lint: $(VENV)/.lint  ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/.lint  ## Format, and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.docs  ## Build the documentation into docs/_build/
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going \
		--quiet docs docs/_build

tables: $(VENV)/.docs  ## Write the generated tables of the documents anew
	$(COG) -r $(TABLES)

check-docs: $(VENV)/.docs  ## Check that the generated tables are up to date
	$(COG) --check $(TABLES)

wheel: $(VENV)/.python  ## Build the wheel into dist/
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:  ## Remove what builds and checks leave; keep environments, data and results
	rm -rf build dist docs/_build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

# A stamp is written last, so an interrupted installation is resumed.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { \
		echo "error: $(PYTHON) is not Python 3.10 to 3.13:" \
			"name one, e.g. make PYTHON=python3.12 env" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.env: $(VENV)/.python $(PACKAGE_FILES)
	$(INSTALL) --editable '.[onedl]'
	touch $@

$(VENV)/.test: $(VENV)/.python $(PACKAGE_FILES)
	$(INSTALL) --editable '.[onedl,deploy,openvino,test]'
	$(INSTALL) --no-deps $(ORACLES)
	touch $@

$(CLASSIFICATION_VENV)/.classification: $(PACKAGE_FILES) constraints/classification.txt
	@$(MAKE) --no-print-directory VENV=$(CLASSIFICATION_VENV) \
		$(CLASSIFICATION_VENV)/.python
	grep -v '^torch==' $(CONSTRAINTS) | cat - constraints/classification.txt \
		> $(CLASSIFICATION_VENV)/constraints.txt
	$(CLASSIFICATION_VENV)/bin/python -m pip --disable-pip-version-check install \
		--constraint $(CLASSIFICATION_VENV)/constraints.txt \
		--editable '.[onedl,classification,test]'
	touch $@

# mmcv has no wheel: its operators are compiled against the installed torch.
$(OPENMMLAB_VENV)/.openmmlab: INSTALL := $(OPENMMLAB_VENV)/bin/python -m pip \
	--disable-pip-version-check install --constraint $(OPENMMLAB_VENV)/constraints.txt
$(OPENMMLAB_VENV)/.openmmlab: $(PACKAGE_FILES) constraints/openmmlab.txt
	@$(MAKE) --no-print-directory VENV=$(OPENMMLAB_VENV) $(OPENMMLAB_VENV)/.python
	grep -Ev '^(torch|numpy|opencv-python|setuptools)==' $(CONSTRAINTS) \
		| cat - constraints/openmmlab.txt > $(OPENMMLAB_VENV)/constraints.txt
	$(INSTALL) --upgrade setuptools wheel ninja numpy torch
	MMCV_WITH_OPS=1 $(INSTALL) --no-build-isolation mmcv
	$(INSTALL) --editable '.[openmmlab,deploy,test]'
	$(INSTALL) --no-deps $(ORACLES)
	touch $@

$(VENV)/.docs: $(VENV)/.python $(PACKAGE_FILES)
	$(INSTALL) --editable '.[onedl,docs]'
	touch $@

$(VENV)/.lint: $(VENV)/.python $(CONSTRAINTS)
	$(INSTALL) ruff
	touch $@
