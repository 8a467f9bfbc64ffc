#!/usr/bin/env bash
# The randomised suites round after round with fresh seeds, until the time is over or one of them fails:
#   bash tests/soak.sh (--hours N | --minutes N) [SUITE...]
#
# Prints each suite with its seed before it runs. At the first failure it prints the end of the output and the command that runs the
# same again, and ends with status 1. The first round is short, so that every suite has had its turn within a minute or two, and is
# always run whole; the later ones are longer. Test programs are built once, before the time begins.
#
# Environment: WATTLOG_SOAK_SEED=N makes the seeds of the rounds from N instead of from chance; CARGO names another cargo.
# Whole outputs: target/soak/SUITE.log, of the last run of each suite.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A suite that takes longer than this hangs, which is a failure too.
readonly MOST_SECONDS=1800
readonly ALL=(power_cut model io_errors changes interleavings second_reader kill memory_limit fuzz)

usage() {
  echo "usage: bash tests/soak.sh (--hours N | --minutes N) [SUITE...]; suites: ${ALL[*]}" >&2
  exit 2
}

seconds=""
suites=()
while [ $# -gt 0 ]; do
  case "$1" in
    --hours | --minutes)
      [[ "${2:-}" =~ ^[0-9]{1,5}$ ]] || usage
      if [ "$1" = --hours ]; then seconds=$((10#$2 * 3600)); else seconds=$((10#$2 * 60)); fi
      shift 2
      ;;
    *)
      [[ " ${ALL[*]} " == *" $1 "* ]] || usage
      suites+=("$1")
      shift
      ;;
  esac
done
[ -n "$seconds" ] || usage
[ "${#suites[@]}" -gt 0 ] || suites=("${ALL[@]}")
# Arithmetic would take any other text for the name of a variable.
if ! [[ "${WATTLOG_SOAK_SEED:-0}" =~ ^[0-9]{1,18}$ ]]; then
  echo "WATTLOG_SOAK_SEED is no number below 10^18: $WATTLOG_SOAK_SEED" >&2
  exit 2
fi

cargo="${CARGO:-cargo}"
logs="${CARGO_TARGET_DIR:-target}/soak"
mkdir -p "$logs"
# A trace, another reader or another size would make these runs others than those that are printed.
unset WATTLOG_SEED WATTLOG_TRACE WATTLOG_KEEP WATTLOG_GOLDEN WATTLOG_POWER_CUTS WATTLOG_CHANGES WATTLOG_STORES WATTLOG_KILLS \
  WATTLOG_MEMORY_SECONDS WATTLOG_INTERLEAVINGS SHUTTLE_RANDOM_SEED

# Package, environment and filter of a suite, for a seed; the sizes are those of a round: short or long.
plan() { # suite, seed, short|long
  local size
  size() { if [ "$1" = short ]; then echo "$2"; else echo "$3"; fi; }
  package=wattlog-engine
  filter=()
  case "$1" in
    power_cut)
      variables=("WATTLOG_SEED=$2" "WATTLOG_POWER_CUTS=$(size "$3" 200 20000)")
      filter=(random_lives)
      ;;
    model) variables=("WATTLOG_SEED=$2") ;;
    io_errors)
      variables=("WATTLOG_SEED=$2" "WATTLOG_POWER_CUTS=$(size "$3" 1000 20000)")
      filter=(random_lives)
      ;;
    changes) variables=("WATTLOG_SEED=$2" "WATTLOG_CHANGES=$(size "$3" 10 50)") filter=(consumers_that_look) ;;
    interleavings) variables=("SHUTTLE_RANDOM_SEED=$2" "WATTLOG_INTERLEAVINGS=$(size "$3" 500 20000)") ;;
    second_reader) variables=("WATTLOG_SEED=$2" "WATTLOG_STORES=$(size "$3" 4 100)") filter=(random_stores) ;;
    kill)
      package=wattlog
      variables=("WATTLOG_SEED=$2" "WATTLOG_KILLS=$(size "$3" 5 50)")
      ;;
    memory_limit)
      package=wattlog
      variables=("WATTLOG_SEED=$2" "WATTLOG_MEMORY_SECONDS=$(size "$3" 20 60)")
      ;;
  esac
}

# Where cargo put the test program of a suite.
declare -A programs
build() {
  local suite variables package filter line
  for suite in "${suites[@]}"; do
    if [ "$suite" = fuzz ]; then
      bash fuzz/run.sh 0 || exit 1 # builds only
      continue
    fi
    plan "$suite" 1 short
    # The last line of what cargo says: `Executable tests/kill.rs (target/debug/deps/kill-0123456789abcdef)`.
    if ! line="$("$cargo" test --color never -p "$package" --test "$suite" --no-run 2>&1)"; then
      echo "$line"
      exit 1
    fi
    line="$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$line" | tail -n 1)"
    [ -x "$line" ] || { echo "cargo named no test program for $suite" >&2; exit 1; }
    programs[$suite]="$(realpath "$line")"
  done
}

# Runs a suite; what it says goes to its log.
run() { # suite, seed, short|long
  local folder=.
  if [ "$1" = fuzz ]; then
    WATTLOG_SEED="$2" bash fuzz/run.sh "$(if [ "$3" = short ]; then echo 1; else echo 30; fi)"
    return
  fi
  plan "$1" "$2" "$3"
  if [ "$package" = wattlog-engine ]; then folder=engine; fi
  # In the foreground, so that Ctrl-C reaches it.
  (cd "$folder" && env "${variables[@]}" timeout --foreground "$MOST_SECONDS" "${programs[$1]}" --nocapture "${filter[@]}")
}

fail() { # suite, seed, short|long, status
  local log="$logs/$1.log" seed
  echo
  tail -n 40 "$log"
  echo
  if [ "$4" -eq 124 ]; then echo "soak: $1 did not end within $MOST_SECONDS s"; else echo "soak: $1 FAILED (status $4), all it said: $log"; fi
  if [ "$1" = fuzz ]; then
    echo "soak: the last line above runs what was found again (what else is tried depends on the corpus, not the seed alone)"
    exit 1
  fi
  plan "$1" "$2" "$3"
  echo "soak: the same again: ${variables[*]} cargo test -p $package --test $1 -- --nocapture ${filter[*]}"
  case "$1" in kill | memory_limit) echo "soak: (the seed repeats what is chosen, not the moment)" ;; esac
  # Suites of many lives name the one that failed.
  seed="$(grep -v -e 'next WATTLOG_SEED' -e 'stores from' "$log" | grep -o 'WATTLOG_SEED=[0-9]*' | tail -n 1)"
  if [ -n "$seed" ] && [[ "$1" =~ ^(power_cut|io_errors|changes|second_reader)$ ]]; then
    case "$1" in
      changes) seed+=" WATTLOG_CHANGES=1" ;;
      second_reader) seed+=" WATTLOG_STORES=1" ;;
    esac
    echo "soak: that life alone: $seed cargo test -p $package --test $1 -- --nocapture ${filter[*]}"
  fi
  exit 1
}

build
# 31 bits from the system, unless told; one draw for each run, whatever the suites do.
random() { od -An -N4 -tu4 /dev/urandom | tr -d ' '; }
next="${WATTLOG_SOAK_SEED:-$(random)}"
next=$((10#$next))
echo "soak: ${suites[*]}; $seconds s from WATTLOG_SOAK_SEED=$next on"
SECONDS=0
round=0
while [ "$round" -eq 0 ] || [ "$SECONDS" -lt "$seconds" ]; do
  round=$((round + 1))
  size=long
  if [ "$round" -eq 1 ]; then size=short; fi
  for suite in "${suites[@]}"; do
    if [ "$round" -gt 1 ] && [ "$SECONDS" -ge "$seconds" ]; then break; fi
    begin=$SECONDS
    printf '%6d s  round %d  %-14s seed %d' "$SECONDS" "$round" "$suite" "$next"
    run "$suite" "$next" "$size" >"$logs/$suite.log" 2>&1
    status=$?
    echo "  $((SECONDS - begin)) s"
    grep '^skipped:' "$logs/$suite.log"
    if [ "$status" -ne 0 ]; then fail "$suite" "$next" "$size" "$status"; fi
    # Far from the seeds that this run took, which count up from its own.
    next=$((next + 1000003))
  done
done
echo "soak: $round rounds in $SECONDS s, nothing found"
