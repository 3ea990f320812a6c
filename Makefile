# pgmoor: `make demo` shows it, `make test` proves it, `make check` is the fast half.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
# A golden file that differs is a failure, never a new file in the tree; `cargo insta review` writes.
export INSTA_UPDATE ?= no
# How often `make soak` repeats the tests that touch the world.
SOAK_COUNT ?= 10
# Seeds of the simulation: in the fast half, and in `make soak`; `make test` takes the test's own number.
CHECK_SEEDS ?= 8
SOAK_SEEDS ?= 10000
# How often the daemon is killed at a random moment in `make soak`; `make test` does it five times.
SOAK_KILLS ?= 50
SCRIPTS := $(wildcard deploy/scripts/* deploy/images/base deploy/images/build deploy/images/extensions deploy/images/pgbouncer/pooler fuzz/run .ci/run \
	tests/testbed/bed tests/testbed/init)

# The test binaries that drive brokers, Docker or Swarm: not of the fast half, and neither are the long searches of the
# simulation.
WORLD := binary(/^(broker|contract|hosts|live)$$/)
FAST := not $(WORLD) & not test(/^(commits|planted)::/)

.PHONY: generate help setup setup-check setup-test setup-down images build lint check deny test testbed testbed-down demo demo-down bench fuzz soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## packages, a Docker engine and a one-node Swarm, where they are missing
	@deploy/scripts/setup

setup-check: # what the fast half needs
	@deploy/scripts/setup --check

setup-test: ## besides, the tools of the tests: mosquitto, cargo-nextest, cargo-deny
	@deploy/scripts/setup --test

setup-down: ## takes back what setup installed, started and built (the demo has its own: demo-down)
	@PGMOOR_GOAL=$@ deploy/scripts/undo .state/setup.created

images: setup ## the Postgres and etcd images, where they are missing or their recipe changed
	@deploy/images/build --all

build: setup-check ## the program, target/debug/pgmoor
	$(CARGO) build --locked --workspace

lint: setup-check # warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps

generate: setup-check ## schemas, AsyncAPI, tables of topics and faults, from the code
	PGMOOR_WRITE=1 $(CARGO) test --locked --test spec --quiet generated_files

check: export SIM_SEEDS ?= $(CHECK_SEEDS)
check: lint ## the fast half: format, clippy, docs, unit and golden tests; no Docker
	$(CARGO) nextest run --locked --workspace -E '$(FAST)'
	$(CARGO) test --locked --workspace --doc --quiet

deny: # licences, banned crates, sources
	$(CARGO) deny --locked check bans licenses sources

test: export PGMOOR_TEST_CATALOGUE = $(CURDIR)/.state/catalogue.json
test: ## everything, once: the fast half, licences, contract tests, live tests on a real Swarm
	@deploy/scripts/setup --test
	shellcheck -x $(SCRIPTS)
	@$(MAKE) lint deny
	@deploy/images/build --all
	@deploy/scripts/check-catalogue
	$(CARGO) test --locked --workspace --doc --quiet
	$(CARGO) nextest run --locked --workspace --profile ci

testbed: ## three Swarm hosts on this machine, in namespaces; tests/testbed/README.md says how to use them
	@deploy/scripts/setup --test
	@deploy/images/build --all
	@PGMOOR_GOAL=$@ tests/testbed/bed up

testbed-down: ## takes them away again
	@PGMOOR_GOAL=$@ tests/testbed/bed down

demo: ## one retained message becomes a running PostgreSQL; leaves it running
	@deploy/scripts/demo

demo-down: ## removes what the demo created, from the list it kept
	@deploy/scripts/demo-down

bench: export PGMOOR_CATALOGUE = $(CURDIR)/.state/catalogue.json
bench: setup-test ## name, value, unit; FLEET_SPECS (10000) specs at once, BENCH_ROUNDS (5) by message and by hand
	@deploy/images/build
	$(CARGO) bench --locked --profile release --bench plan --bench fleet --bench first_sql

fuzz: setup-check ## any bytes as specs, topics and hba lines, each for FUZZ_SECONDS (60)
	@deploy/scripts/setup --fuzz
	@fuzz/run

soak: export PGMOOR_TEST_CATALOGUE = $(CURDIR)/.state/catalogue.json
soak: setup-test ## the tests that touch the world, SOAK_COUNT times; ends at the first failure
	@deploy/images/build --all
	SIM_SEEDS=$(SOAK_SEEDS) $(CARGO) nextest run --locked --cargo-profile bench --profile ci --test simulation
	KILLS=$(SOAK_KILLS) $(CARGO) nextest run --locked --profile ci --test live -E 'test(killed_at_random_moments)'
	@for i in $$(seq $(SOAK_COUNT)); do \
		echo "== round $$i of $(SOAK_COUNT)"; \
		$(CARGO) nextest run --locked --workspace --profile ci -E '$(WORLD)'; \
	done
	@$(MAKE) fuzz

clean: ## what was built here; what setup and the demo created stays (setup-down, demo-down)
	$(CARGO) clean
	rm -f .state/*.log .state/*.log.id
