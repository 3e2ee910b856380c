SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Further flags for cargo, such as --locked.
CARGO_FLAGS ?=
# How many tests run at a time: they wait for brokers and processes about as much as they compute.
export RUST_TEST_THREADS ?= $(shell echo $$(($$(nproc) * 2)))
# Which benches `make bench` runs: all but the soak and the year, which take half an hour and an hour, or the named one.
BENCH ?= [!sy]*

# The release profile serves for everything, since RocksDB is compiled once for each profile. Tests and benches build
# the programs by themselves: dev-dependencies turn on features of shared crates, and a program built without them
# would compile Arrow, Parquet and others a second time.
env := source scripts/env.sh
cargo_build := cargo build --release -p perennial -p perennial-trainer $(CARGO_FLAGS)

# Tests compile the workspace quickly, and so do brokers that live for seconds.
test_env := $(env); export KAFKA_COMPILER=fast
tests := --config scripts/tests.toml --release $(CARGO_FLAGS)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what is missing: system packages, native libraries, rustfmt, clippy
	@scripts/setup.sh

.PHONY: build
build: setup ## Build the programs (the first time compiles RocksDB: 20 minutes)
	@$(env); $(cargo_build)

.PHONY: binary
binary: setup ## Build, then print the path of the program and nothing else (with make -s)
	@$(env); program="$$CARGO_TARGET_DIR/release/perennial"; quiet=; \
	if [[ -x $$program ]]; then quiet=--quiet; fi; \
	$(cargo_build) $$quiet >&2; echo "$$program"

.PHONY: demo
demo: build ## Watch real counts of pedestrians being learned, from before a lockdown to after it
	@$(env); "$$CARGO_TARGET_DIR/release/perennial" demo

.PHONY: dist
dist: setup ## Make the packages that are delivered, in dist/: deb, tarball, wheel, image, bill of materials
	@scripts/dist/all.sh

.PHONY: kafka
kafka: ## Run a Kafka broker at 127.0.0.1:9092 until Ctrl-C, for trials
	@scripts/kafka.sh run

.PHONY: test
test: setup ## Run all tests
	@$(test_env); cargo build --workspace --bins --tests $(tests); cargo test --workspace $(tests)

# With PERENNIAL_CHAOS_SEED another seed, with PERENNIAL_CHAOS_KILLS more kills or less.
.PHONY: chaos
chaos: setup ## Kill a pipeline and its broker 200 times, and recount what is left
	@$(test_env); export PERENNIAL_CHAOS_KILLS="$${PERENNIAL_CHAOS_KILLS:-200}"; \
	cargo build --workspace --bins --tests $(tests); \
	cargo test --workspace --test program $(tests) -- --nocapture --exact chaos::inputs_count_once_despite_kills

# With PERENNIAL_FUZZ_SEED another seed, with PERENNIAL_FUZZ_INPUTS another number of inputs.
.PHONY: fuzz
fuzz: setup ## Give each decoder a million damaged inputs, slow ones fewer
	@$(test_env); export PERENNIAL_FUZZ_INPUTS="$${PERENNIAL_FUZZ_INPUTS:-1000000}"; \
	cargo build --workspace --bins --tests $(tests); \
	cargo test --workspace --test fuzz $(tests) -- --nocapture

.PHONY: edges
edges: setup ## Learn the whole thermal stream at three edges and in a cloud, and compare with one pipeline
	@$(test_env); cargo build --workspace --bins --tests $(tests); \
	cargo test --workspace --test program $(tests) -- --nocapture --ignored --exact fleet::edge_cloud::thermal::edges_together_equal_one_pipeline

.PHONY: test-deploy
test-deploy: setup ## Test what is delivered beside the program: chart, unit, Dockerfile, package for Python
	@$(test_env); cargo build --workspace --bins --tests $(tests); scripts/test-deploy.sh

.PHONY: bench
bench: setup ## Run all benches, or one: make bench BENCH=throughput
	@$(env); cargo build --release --workspace --bins --bench '$(BENCH)' $(CARGO_FLAGS); \
	cargo bench --workspace --bench '$(BENCH)' $(CARGO_FLAGS)

.PHONY: bench-kafka
bench-kafka: ## Measure from topic to topic, against a plain loop, and the latency
	@$(MAKE) bench BENCH=kafka_throughput

# For PERENNIAL_SOAK_SECONDS instead of half an hour, at PERENNIAL_SOAK_RATE samples a second.
.PHONY: soak
soak: ## Run for half an hour at half of the greatest rate: memory and lag stay as they are
	@$(MAKE) bench BENCH=soak

# For PERENNIAL_YEAR_SECONDS instead of an hour, with PERENNIAL_YEAR_SEED another seed.
.PHONY: year
year: ## Let a fleet live through a year within an hour: outages, kills, backups, poison; and recount it
	@$(MAKE) bench BENCH=year

.PHONY: lint
lint: format clippy doc ## Check the format, clippy and the API documentation

.PHONY: format
format: setup
	@$(env); cargo fmt --all --check

.PHONY: clippy
clippy: setup
	@$(env); cargo clippy --release --workspace --all-targets $(CARGO_FLAGS) -- -D warnings

.PHONY: doc
doc: setup
	@$(env); RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --release --workspace $(CARGO_FLAGS)

.PHONY: book
book: setup ## Build the book into docs/book
	@scripts/mdbook.sh build docs
