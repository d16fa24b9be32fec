#!/bin/sh
# Everything a change must pass: formatting, lints, tests, documentation. Needs a Rust toolchain, nothing else.
set -eu
cd "$(dirname "$0")"
cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
cargo test --workspace --quiet
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
echo "all checks passed"
