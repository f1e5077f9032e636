# Two commands: `make run` and `make test`. The ClickHouse they need is fetched once by the program itself.

.PHONY: run test lint fmt bench prerequisites

run: prerequisites
	cargo build --release --locked --bin ringhouse
	./target/release/ringhouse serve --embedded

test: prerequisites
	cargo test --locked

bench: prerequisites
	cargo bench --locked

fmt:
	cargo fmt

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

prerequisites:
	@scripts/prerequisites
