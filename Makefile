# `make run` and `make test` are all a newcomer needs; CONTRIBUTING.md explains the rest.

SHELL := /bin/bash
# Outside the checkout, so that checkouts share it and a checkout stays small.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/entroos/target
export PATH := $(PATH):$(HOME)/.cargo/bin
# For how long each randomised or fuzzing test may look for trouble, in seconds; `make soak` takes an hour.
export ENTROOS_TEST_SECONDS ?= 5

HOST := $(shell rustc -vV 2> /dev/null | sed -n 's/^host: //p')
RELEASE := $(CARGO_TARGET_DIR)/$(HOST)/release/entroos

.PHONY: run build test check bench soak audit packages packages-test rocksdb fmt clippy unit deny light

run: build
	scripts/run.sh

# The static release binary at dist/entroos.
build: packages rocksdb
	cargo build --release --locked
	mkdir -p dist && cp $(RELEASE) dist/entroos.new && mv dist/entroos.new dist/entroos
	scripts/static.sh dist/entroos

test: packages-test check unit light deny
	@echo "all tests passed"

check: rocksdb fmt clippy

fmt:
	cargo fmt --all --check

clippy: rocksdb
	cargo clippy --workspace --all-targets --locked -- -D warnings

unit: rocksdb
	cargo test --workspace --locked

# The small build of `--features build-fix` must stay small and keep out the heavy crates.
light:
	cargo build --locked --no-default-features --features build-fix
	! cargo tree --locked --no-default-features --features build-fix -e normal | grep -E ' (librocksdb-sys|libcontainer|axum|oci-client) '

deny:
	scripts/cargo-deny.sh check licenses bans sources

audit:
	scripts/cargo-deny.sh check advisories || { echo "the advisories could not be checked or one applies: see above" >&2; exit 1; }

bench: packages-test rocksdb
	cargo bench --locked

soak: packages-test rocksdb
	ENTROOS_TEST_SECONDS=3600 cargo test --workspace --locked --release -- --include-ignored

packages:
	scripts/packages.sh

packages-test:
	scripts/packages.sh test

rocksdb:
	scripts/rocksdb.sh
