#!/usr/bin/env bash
# Builds every fuzz target and runs each for the seconds given, none at all for 0: fuzz/run.sh SECONDS [TARGET...]
#
# WATTLOG_SEED=N gives the fuzzer its seed; what it then tries depends on the corpus too. A find is run again by its input, with
# the command printed.
# Stable Rust and a C++ compiler are enough: RUSTC_BOOTSTRAP opens the two flags that coverage needs. A find stops the
# run with its input under fuzz/artifacts; it then becomes a named test. What a run learns stays in fuzz/target/corpus;
# the seeds in fuzz/corpus are only read.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET...]}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in src/bin/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Zsanitizer=address"
# With --target, build scripts and macros stay free of the flags.
cargo build --release --locked --target "$host"
# To the fuzzer 0 seconds are no limit.
if [ "$seconds" -eq 0 ]; then exit; fi
seed=()
if [ -n "${WATTLOG_SEED:-}" ]; then seed=("-seed=$((WATTLOG_SEED % 4294967295 + 1))"); fi

found() { # target, program
    local input
    tail -n 40 "target/$1.log"
    echo "== $1: found something, see fuzz/artifacts/$1"
    input=$(sed -n 's/.*Test unit written to //p' "target/$1.log" | tail -n 1)
    echo "== again: cd fuzz && $2 $input"
    exit 1
}

for target in "${targets[@]}"; do
    mkdir -p "target/corpus/$target" "artifacts/$target"
    seeds=()
    if [ -d "corpus/$target" ]; then seeds=("corpus/$target"); fi
    echo "== $target: $seconds s"
    program="${CARGO_TARGET_DIR:-target}/$host/release/$target"
    "$program" "target/corpus/$target" "${seeds[@]}" "${seed[@]}" \
        -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 2>"target/$target.log" \
        || found "$target" "$program"
    grep -E 'stat::(number_of_executed_units|new_units_added|peak_rss_mb)' "target/$target.log"
done
