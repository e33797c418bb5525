# Everything a person or a machine does with this repository. `make` alone prints this list.

PYTHON ?= python3
REGISTRY ?= localhost
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# The first that is there and answers: a docker client without an engine builds nothing.
BUILDER ?= $(shell for tool in docker podman buildah; do $$tool info >/dev/null 2>&1 && echo $$tool && break; done)
BUILD_IMAGE = $(BUILDER) build $(BUILD_FLAGS) -f images/Dockerfile --build-arg VERSION=$(TAG) \
  $(if $(BASE),--build-arg BASE=$(BASE)) $(if $(INDEX),--build-arg INDEX=$(INDEX))
# A folder each; its extra and its folder in images/ have the same name, and its code says its library's licence.
TRAINERS := $(sort $(patsubst visionloop/training/trainers/%/__init__.py,%,$(wildcard visionloop/training/trainers/*/__init__.py)))
# What the image of every trainer holds besides: what trackers need. cleanup ends runs of ClearML and of a database too, in the stage image.
TRACKERS := clearml database tensorboard
# register signs models in it, and export writes for OpenVINO.
TRAINER_EXTRAS := $(TRACKERS) openvino signing
STAGE_EXTRAS := clearml database
licence = $(shell sed -n 's/^ *licence = "\(.*\)"$$/\1/p' visionloop/training/trainers/$(1)/__init__.py)
# Which images to build: folders in images/. A trainer's image is called visionloop-trainer-NAME.
IMAGE ?= stage $(TRAINERS) services
image = visionloop-$(if $(filter $(1),$(TRAINERS)),trainer-)$(1)
IMAGES = $(foreach name,$(IMAGE),$(REGISTRY)/$(call image,$(name)):$(TAG))
licences = Apache-2.0$(if $(filter $(1),$(TRAINERS)),$(if $(filter-out Apache-2.0,$(call licence,$(1))), AND $(call licence,$(1))))
KIND := KUBECONFIG=$(CURDIR)/.visionloop/kind.kubeconfig manifests/kind/kind.sh
UV_VERSION := 0.13.8
PIN = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --overrides overrides.txt \
  --no-annotate --no-header --no-emit-index-url

# More than cores: tests wait for servers and processes nearly as long as they compute.
TEST_PROCESSES ?= 3
PYTEST = $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup --no-loadscope-reorder

# The sample dataset that make demo trains: detection, segmentation, pose or classification.
TASK ?= detection
# The library that trains it, by the name of its trainer; empty takes the first that is installed.
TRAINER ?=

# Where the repository is published: what make release builds names it.
URL ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export MLFLOW_DISABLE_TELEMETRY := true
# The registry and the embedded services of what is started here, wherever make is called from.
export VISIONLOOP_HOME ?= $(CURDIR)/.visionloop
# uv brings its own certificates; the system's hold a company's own as well.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),true,false)

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-loop test test-all coverage lint format types golden golden-check ci bench chaos hostile matrix cluster-test gpu-test images image-names release kind-up kind-demo kind-down constraints clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(INSTALLED) ## Create .venv with the pinned packages

$(INSTALLED): constraints.txt pyproject.toml
	@test -d visionloop/components/train -a -d visionloop/pipelines/cli || \
	  { echo "visionloop/components, visionloop/pipelines: not the links that the repository holds; get it with git, or an archive that keeps links"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON): Visionloop needs Python 3.11 or newer; name one with make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) -m venv: can't create $(VENV); on Debian install python3-venv"; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: venv ## Train the sample dataset end to end on this machine; TASK=segmentation, pose or classification, TRAINER=NAME for another one
	@$(BIN)/visionloop demo --task $(TASK) $(if $(TRAINER),--trainer $(TRAINER))

demo-loop: venv ## After the demo: retrain it on better, worse and broken data, then verify, export, predict and roll back
	@$(BIN)/visionloop demo-loop

test: venv ## Run the tests, but for the slow ones
	$(PYTEST) --quick

test-all: venv ## Run the slow tests too
	$(PYTEST)

# One process, or the counting would reach into the processes that tests start and kill: what those execute is left out.
coverage: venv ## Run the tests in one process, and print how much of the package they execute in it (slow)
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage report --skip-covered

lint: venv ## Check style, and that each room imports only what lies below it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: venv ## Put the code into the checked style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: venv ## Check types
	$(BIN)/mypy -p visionloop
	MYPYPATH=tests:docs $(BIN)/mypy --config-file tests/mypy.ini --exclude '^tests/[^/]+/conftest\.py$$' tests docs/*.py
# They share one name, so each is a module below its folder here.
	$(BIN)/mypy --config-file tests/mypy.ini --cache-dir .mypy_cache/conftests --explicit-package-bases --ignore-missing-imports tests/*/conftest.py

golden: venv ## Write what is compared: compiled pipelines, components, tables and layers of the docs, hashes of the logic
	$(BIN)/visionloop compile --engine argo --out manifests/argo
	$(BIN)/visionloop compile --engine kfp --out manifests/kfp
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/components.py
	$(BIN)/python docs/layers.py
	$(BIN)/python docs/schema.py
	$(BIN)/python tests/core/logic.py

golden-check: venv ## Check that the compiled pipelines are current
	@rm -rf build/golden
	$(BIN)/visionloop compile --engine argo --out build/golden/argo
	$(BIN)/visionloop compile --engine kfp --out build/golden/kfp
	@diff -ru manifests/argo build/golden/argo && diff -ru manifests/kfp build/golden/kfp || \
	  { echo "manifests/: not what the sources compile to; run make golden and commit the result"; exit 1; }

ci: lint types golden-check test-all ## Run all checks of a change

bench: venv ## Run the paired timings
	$(BIN)/python -m pytest -m bench

chaos: venv ## Kill trainings at random moments, many times
	$(BIN)/python -m pytest -m chaos

hostile: venv ## Try hundreds of wrong inputs, and write the table of docs/reliability.md
	$(BIN)/python -m pytest -m hostile -q -s tests/hostile

matrix: venv ## Run the long cases that make test leaves out: the demo, kills in each stage, a notebook, pairs of form values
	$(BIN)/python -m pytest -m matrix -n $(TEST_PROCESSES) --dist loadgroup --no-loadscope-reorder

cluster-test: venv ## Test on the cluster that KUBECONFIG names
	@test -n "$(KUBECONFIG)" || { echo "KUBECONFIG: not set; name the file of a cluster to test on"; exit 1; }
	$(BIN)/python -m pytest -m cluster

gpu-test: venv ## Test on this machine's GPU
	$(BIN)/python -m pytest -m gpu

images: $(IMAGE:%=image-%) ## Build the images, IMAGE="stage TRAINER… services" REGISTRY=localhost TAG=version [BASE=…] [INDEX=…] [BUILD_FLAGS=…]

image-names: # what the images are called, a line each
	@printf '%s\n' $(IMAGES)

image-%:
	@test -n "$(BUILDER)" || { echo "docker, podman or buildah: none found that works; install one or name it with make images BUILDER=…"; exit 1; }
	@test -f images/$*/requirements.txt || { echo "IMAGE=$*: no such image; give some of stage, services and the trainers ($(TRAINERS))"; exit 1; }
	$(BUILD_IMAGE) --build-arg IMAGE=$* --build-arg NAME=$(call image,$*) --build-arg LICENSES="$(call licences,$*)" \
	  -t $(REGISTRY)/$(call image,$*):$(TAG) .

release: venv ## Build the wheel and the source distribution of HEAD into dist/, and print the names of the images; URL=https://… is the repository's public address
	@case "$(URL)" in https://?*) ;; *) echo "make release URL=https://…: give the repository's public address, which [project.urls] of what is built names" >&2; exit 1;; esac
	@rm -rf dist build/release && mkdir -p build/release
	@git archive HEAD | tar -x -C build/release
	@printf '\n[project.urls]\nRepository = "%s"\n' '$(URL)' >> build/release/pyproject.toml
	cd build/release && $(abspath $(BIN))/python -m hatchling build --directory $(CURDIR)/dist
	@printf '%s\n' $(IMAGES)

kind-up: ## Create a kind cluster with both engines, S3, MLflow and Visionloop in it (needs docker, kind and git)
	$(KIND) up

kind-demo: venv ## Train the sample dataset on that cluster
	$(KIND) demo

kind-down: ## Delete that cluster
	$(KIND) down

# Addresses stay out: the header and the index lines are left away. Hashes hold whatever index serves the files.
constraints: $(VENV)/bin/python ## Pin the newest versions, of the images too
	@mkdir -p build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(PIN) pyproject.toml --all-extras --upgrade --output-file build/constraints.txt
	@{ echo "# All packages with versions and hashes, for every platform. Refreshed by: make constraints"; \
	  cat build/constraints.txt; } > constraints.txt
	$(PIN) pyproject.toml --constraints constraints.txt $(STAGE_EXTRAS:%=--extra %) --output-file images/stage/requirements.txt
	@mkdir -p $(TRAINERS:%=images/%)
	set -e; for trainer in $(TRAINERS); do \
	  $(PIN) pyproject.toml --constraints constraints.txt --extra $$trainer $(TRAINER_EXTRAS:%=--extra %) \
	    --output-file images/$$trainer/requirements.txt; done
	$(PIN) pyproject.toml --constraints constraints.txt --extra local --output-file images/services/requirements.txt
	$(PIN) images/builder.in --constraints constraints.txt --upgrade --output-file images/builder.txt

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

clean: ## Remove .venv and what was built, never .visionloop
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
