# `make test` is what CI runs.
.PHONY: test
export CARGO_TERM_COLOR ?= never

test:
	cargo fmt --check -p terraform-provider-bluegreen
	cargo nextest run --locked -p terraform-provider-bluegreen
