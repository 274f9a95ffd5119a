# `make help` lists the targets. Everything that is fetched or built goes into .deps/ and target/ (or $CARGO_TARGET_DIR).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3
DEPS := $(CURDIR)/.deps
CALOSTREAM := $(or $(CARGO_TARGET_DIR),target)/release/calostream
export PYTHON
# The HDF5 library is built by cmake; see setup/cmake.sh.
export PATH := $(DEPS)/tools/bin:$(PATH)
ifdef CALOSTREAM_CORPUS
export CALOSTREAM_CORPUS := $(abspath $(CALOSTREAM_CORPUS))
endif

.PHONY: help
help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools:
	@setup/cmake.sh
	setup/onnxruntime.sh

.PHONY: setup
setup: tools $(DEPS)/venv/requirements.sha256 ## fetches what cargo does not: cmake where it is missing, ONNX Runtime, the Python oracles

# Made anew when the requirements change; the pins are in setup/requirements.in.
$(DEPS)/venv/requirements.sha256: setup/requirements.txt
	@if [ -e $@ ] && sha256sum --status --check $@; then touch $@; exit 0; fi
	$(PYTHON) -m venv --clear $(DEPS)/venv
	$(DEPS)/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement setup/requirements.txt
	sha256sum setup/requirements.txt > $@

.PHONY: requirements
requirements: ## pins setup/requirements.in and training.in, with hashes (needs uv)
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 setup/requirements.in -o setup/requirements.txt
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 setup/training.in -o setup/training.txt

.PHONY: build
build: tools ## builds the program
	cargo build --release --workspace

.PHONY: demo
demo: build ## makes showers, runs the energy resolution of four particles over them, and says where the report is
	@$(CALOSTREAM) run pipelines/make-showers.yaml
	$(CALOSTREAM) run pipelines/lcd-energy-resolution.yaml
	echo "The report:"
	find "$(CURDIR)/runs" -name '*.html'

.PHONY: test
test: setup ## runs all tests (CALOSTREAM_CORPUS=folder adds those over real files)
	@cargo build --release --workspace
	cargo test --release --workspace

# PyTorch's wheel is some 6 GB with what it brings along, so this is no part of `make test`.
$(DEPS)/training/training.sha256: setup/training.txt
	@if [ -e $@ ] && sha256sum --status --check $@; then touch $@; exit 0; fi
	$(PYTHON) -m venv --clear $(DEPS)/training
	$(DEPS)/training/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement setup/training.txt
	sha256sum setup/training.txt > $@

.PHONY: test-training
test-training: setup $(DEPS)/training/training.sha256 ## trains with PyTorch and JAX on what is fed (fetches some 3 GB the first time)
	@cargo build --release --workspace
	CALOSTREAM_TRAINING=$(DEPS)/training/bin/python cargo test --release --workspace --test training

.PHONY: test-report
test-report: build ## looks at reports in headless Chromium (Debian's, fetched where there is none); leaves pictures of them in target/report/
	@setup/chromium.sh
	out=$(or $(CARGO_TARGET_DIR),target)/report
	rm -rf "$$out"
	$(CALOSTREAM) run -q pipelines/make-showers.yaml --set events=400 --set "out=$$out/showers"
	for pipeline in lcd-energy-resolution lcd-particle-identification; do
		$(CALOSTREAM) run -q "pipelines/$$pipeline.yaml" --set "data=$$out/showers/files" --set "out=$$out/$$pipeline" > /dev/null
		$(PYTHON) tests/browser/look.py "$$out/$$pipeline/page/report.html" "$$out"
	done

.PHONY: test-cuda
test-cuda: setup ## runs the tests of networks on a GPU (with ONNX Runtime of onnxruntime-gpu: ORT_DYLIB_PATH=...); without one they say so
	@cargo build --release --workspace
	cargo test --release --workspace --test cuda -- --nocapture

.PHONY: fuzz
fuzz: setup ## reads 200,000 damaged files (CALOSTREAM_EFFORT times 2,000; kill tests scale by it, too); some ten minutes
	@cargo build --release --workspace
	CALOSTREAM_EFFORT=$${CALOSTREAM_EFFORT:-100} cargo test --release --workspace --test hdf5_fuzz -- --nocapture

.PHONY: lint
lint: tools ## checks the format, and what clippy says
	@cargo fmt --all --check
	# What the list of operators declares is not seen by cargo fmt.
	rustfmt --edition 2024 --check $$(find operators/{read,row,image,mix,infer,reduce,write} -name '*.rs')
	cargo clippy --release --workspace --all-targets -- -D warnings

.PHONY: bench
bench: setup ## measures what is claimed of speed, beside what one would use instead (CALOSTREAM_CORPUS=folder, CALOSTREAM_BENCH_SCALE=2)
	@cargo build --release --workspace
	cargo bench --workspace --bench peers

.PHONY: audit
audit: ## checks licences and advisories of all dependencies (needs cargo-deny)
	@cargo deny check

.PHONY: fresh
fresh: ## throws away what runs wrote
	@rm -rf runs

.PHONY: clean
clean: fresh ## throws away what was built, too; what was fetched stays
	@cargo clean
