# Two commands: `make run` and `make test`. The ClickHouse they need is fetched once by the program itself.

.PHONY: run test shippers-test crash-test loom lint fmt bench fuzz proto prerequisites

run: prerequisites
	cargo build --release --locked --bin ringhouse
	./target/release/ringhouse serve --embedded

# Unit, property and integration tests, and every benchmark at its tiny size.
test: prerequisites loom
	cargo test --locked --lib --bins --tests --benches
	cargo test --locked --doc

# The OpenTelemetry Collector, which needs Go and is built for minutes at the first time.
shippers-test: prerequisites
	cargo test --locked --test collector -- --ignored

# Processes killed and paused, connections cut, logs damaged, CYCLES times: what was lost, what was doubled.
# RINGHOUSE_CRASH_SEED repeats a schedule.
CYCLES ?= 250
crash-test: prerequisites
	CYCLES=$(CYCLES) cargo test --locked --release --test crash -- --nocapture --test-threads=1

# Every interleaving of the doorbell. Optimized: loom runs tens of thousands of executions.
loom: prerequisites
	RUSTFLAGS="--cfg loom" cargo test --locked --release --manifest-path tests/loom/Cargo.toml --target-dir target/loom

bench: prerequisites
	cargo bench --locked

# A minute for each target; needs a nightly toolchain and cargo-fuzz.
fuzz: prerequisites
	cd fuzz && for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; \
	done

# The descriptors that reflection answers with; needs protoc.
proto:
	cd proto && protoc -I. --include_imports --descriptor_set_out=descriptors.binpb \
		$$(find . -name '*.proto' | sed 's,^\./,,' | LC_ALL=C sort)

fmt:
	cargo fmt

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); else \
		echo "shellcheck is missing, the scripts are not looked at: install shellcheck to have them linted"; fi

SCRIPTS = scripts/prerequisites tuning/host tuning/measure flamegraphs/record $(wildcard .ci/*)

prerequisites:
	@scripts/prerequisites
