# Verbs of the project. `just check` is what a change must pass; `.ci/run` runs the same steps on a fresh machine.

default:
    @just --list

# Format, lints, tests, benches on little data, docs.
check: fmt lint test bench-test doc

fmt:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# What a fresh machine runs: all of `check` and short fuzz, crash and demo runs.
ci:
    bash .ci/run

# Fuzz targets, SECONDS each.
fuzz SECONDS="60":
    bash fuzz/run.sh {{SECONDS}}

# Simulated power cuts and kill -9 with fresh seeds. WATTLOG_SEED=n goes on from seed n; a long run prints where it is.
crash CUTS="20000" KILLS="50":
    WATTLOG_POWER_CUTS={{CUTS}} cargo test -p wattlog-engine --test power_cut -- --nocapture
    WATTLOG_FLIPS=all cargo test -p wattlog-engine --test bit_flips any_bit -- --nocapture
    WATTLOG_KILLS={{KILLS}} cargo test --test kill -- --nocapture

# The binary with 256 MiB of memory under hostile clients, SECONDS long.
memory SECONDS="600":
    WATTLOG_MEMORY_SECONDS={{SECONDS}} cargo test --test memory_limit -- --nocapture

# Commit, snapshot and seal under ORDERS orders of steps of each kind.
interleavings ORDERS="20000":
    WATTLOG_INTERLEAVINGS={{ORDERS}} cargo test -p wattlog-engine --test interleavings

# The change feed against its oracle, HISTORIES of them.
changes HISTORIES="3000":
    WATTLOG_CHANGES={{HISTORIES}} cargo test -p wattlog-engine --test changes -- --nocapture

# The second reader: examples, vectors and golden stores, then STORES random ones.
second-reader STORES="200":
    cd tests/format && python3 -m unittest
    WATTLOG_STORES={{STORES}} cargo test -p wattlog-engine --test second_reader -- --nocapture

# Golden stores of the format as it is, into a FOLDER that must not exist (tests/golden/README.md).
golden FOLDER:
    WATTLOG_GOLDEN="$(realpath -m {{FOLDER}})" cargo test -p wattlog-engine --test second_reader a_set_of_golden -- --nocapture

# All randomised suites with fresh seeds, round after round, HOURS long; stops at the first failure and says how to repeat it.
soak HOURS="8":
    bash tests/soak.sh --hours {{HOURS}}

bench *ARGS:
    cargo bench {{ARGS}}

# Benches once, on little data: they assert what they time.
bench-test:
    cargo test --benches

# The whole thing in one go, from an empty folder.
demo:
    cargo run --release -- demo

# Licences, bans and sources of all dependencies.
deny:
    cargo deny check licenses bans sources

# What is too long for a change: long fuzzing, many cuts, benches.
nightly: check deny
    just fuzz 600
    just crash 500000 1000
    just memory 600
    just interleavings 200000
    just changes
    just bench
