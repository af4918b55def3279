# Everything here works on a fresh machine with Rust, Python 3, a C compiler and git; tools go to .tools/, builds to target/.
# Only setup-servers changes the machine itself.
.PHONY: help demo gates quick local-aws test bench fmt lint unit scenarios build tools-demo tools-test setup-servers advisories docs

export CARGO_TERM_COLOR ?= never
export CARGO_TARGET_DIR := $(CURDIR)/target
export PATH := $(CURDIR)/.tools/cargo/bin:$(PATH)

# How many stories are told of the whole system in memory: make unit STORIES=100000 tells more.
STORIES := 5000
# A scenario waits about half of its time: for timers, for targets, for Terraform.
THREADS := $(shell echo $$(($$(nproc 2>/dev/null || sysctl -n hw.ncpu) * 2)))
# One moto is loaded for all scenarios, and forked for each.
NURSERY := .tools/venv/bin/python terraform-tests/local-aws/src/moto_server.py
SETUP := python3 terraform-tests/tools/setup.py
ADVISORIES := $(wildcard $(or $(CARGO_HOME),$(HOME)/.cargo)/advisory-dbs/*/.git)

# $(call part,NAME,COMMAND): runs it, and says how long it took.
part = @start=$$(date +%s); $(2); code=$$?; echo "make: $(1) took $$(($$(date +%s) - start)) s"; exit $$code

help:
	@echo "make demo   a real terraform moves real traffic between blue and green, under load, on this machine"
	@echo "make test   every test, as CI runs them"
	@echo "make quick  the unit tests after an edit; FILTER=name for some of them"
	@echo "make setup-servers   installs PostgreSQL, MariaDB and Redis by apt, which make test needs"
	@echo "make bench  start-up, plan cost and AWS calls, as ratios"
	@echo "make local-aws   only the local AWS: prints its endpoint, runs until Ctrl-C"
	@echo "make advisories   what is known against the packages in Cargo.lock, by a fresh database"
	@echo "make gates  simulates what the gates of a rollout do to healthy and to worse colors, for the guide"
	@echo "make docs   writes the pages in docs/ anew from the schemas"

demo: tools-demo
	@cargo build --quiet --locked --workspace --bins
	@target/debug/demo

local-aws: tools-demo
	@cargo build --quiet --locked --workspace --bins
	@target/debug/local-aws

# After an edit: the unit tests of the library, or those that FILTER names. Unoptimized it is built in half a minute, and runs for longer.
quick:
	@CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo nextest run --locked --workspace --lib $(FILTER)

# The fast ones first; what is slow only runs if they pass.
test: fmt tools-test unit lint scenarios

fmt:
	$(call part,fmt,cargo fmt --all --check)

lint:
	$(call part,clippy,cargo clippy --locked --workspace --all-targets -- -D warnings)
	$(call part,doc,RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps)
	$(call part,deny,cargo deny --log-level error check bans licenses sources)
ifneq ($(ADVISORIES),)
	cargo deny --offline --log-level error check advisories
else
	@echo "advisories: not checked here, there is no database; make advisories fetches one"
endif

# News break no build by themselves: only this fetches them, and so does a workflow every week.
advisories:
	@$(SETUP) cargo-deny
	cargo deny check advisories

unit:
	$(call part,building and running the unit tests,cargo nextest run --locked --workspace --lib)
	$(call part,stories,BLUEGREEN_STORIES=$(STORIES) cargo nextest run --locked --workspace --lib come_right)

scenarios: build
	$(call part,scenarios,$(NURSERY) cargo nextest run --locked --workspace --test scenarios --test-threads $(THREADS))
	$(call part,demo,target/debug/demo)

# With the tests, so that everything is built once, with one set of features.
build:
	$(call part,building the programs,cargo build --locked --workspace --bins --tests)

docs:
	UPDATE_EXPECT=1 cargo nextest run --locked --workspace --lib pages

bench: tools-demo
	@$(SETUP) aws-provider servers
	@cargo build --quiet --locked --release --workspace --bins
	@target/release/bench

# The figures of the guide on gates, by the provider's own judge: some minutes.
gates:
	@cargo build --quiet --locked --workspace --bin gates
	@target/debug/gates

tools-demo:
	@$(SETUP) venv engine:any

setup-servers:
	@$(SETUP) servers:install

tools-test:
	$(call part,tools,$(SETUP) nextest cargo-deny venv aws-provider engine:1.8 engine:1.11 engine:1.15 engine:any servers actionlint express-app)
