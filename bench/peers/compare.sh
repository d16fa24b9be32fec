#!/usr/bin/env bash
# Compare apr with llama.cpp: prefill, decode, decode at depth, load and first token, memory; and with candle: prefill
# and decode. One command does it all.
#
#   bench/peers/compare.sh DIR
#
# In DIR, which is created, this script builds llama.cpp (DIR/llama, see build_llama_cpp.sh) and measure.cpp over it,
# candle and candle/src/main.rs over it (DIR/candle, crates from crates.io), makes the models (DIR/fixtures, 12 GB;
# random weights in the shapes of Qwen2.5 0.5B and 1.5B, Q4_K_M and Q8_0 by llama.cpp's own quantiser), and runs both
# sides in turn (compare.py). Each run adds a line to DIR/results.jsonl, so that a call that was interrupted goes on
# where it stopped. The last thing it prints is one Markdown table.
#
# Time on two idle cores: the builds 30 min, the models 10 min, the comparison with five pairs about 3 h 30 min.
# Nothing else should run meanwhile: compare.py says with each pair how busy other processes kept the machine.
#
# Environment: APR      the command to measure (target/release/apr, built when it is not named)
#              PAIRS    pairs of each cell (5)
#              PEERS    the peers to compare with ("llama.cpp candle")
#              CELLS    only the cells whose name contains one of these words, such as "0.5b.Q8_0" or "memory first" or
#                       "candle.0.5b.Q4_K_M.t2.speed"
#              CPUS     the two CPUs to run on ("0 1")
#              RESULTS  where lines go (DIR/results.jsonl)
#              ONLY     "prepare" stops before measuring; "table" prints the table of the lines that are there
#
# mistral.rs is not compared. Needs python3, a C++17 compiler, cargo and taskset.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
results=${RESULTS:-$dir/results.jsonl}
read -r -a cells <<<"${CELLS:-}"
read -r -a peers <<<"${PEERS:-llama.cpp candle}"

if [ "${ONLY:-}" = table ]; then
    exec python3 "$here/compare.py" --results "$results" --table "${cells[@]}"
fi

if [ -z "${APR:-}" ]; then
    (cd "$root" && cargo build --release --quiet --bin apr)
    APR=$root/target/release/apr
fi

if [ ! -x "$dir/llama/measure" ] || [ "$here/measure.cpp" -nt "$dir/llama/measure" ]; then
    "$here/build_llama_cpp.sh" "$dir/llama" # whatever the peers are: the models need its quantiser
fi

# made TARGET COMMAND...: runs the command, which writes to the path in $new, unless TARGET is there already.
made() {
    local target=$1
    shift
    [ -e "$target" ] && return
    echo "making $target" >&2
    new=${target%.gguf}.new.gguf
    rm -f "$new"
    "$@" >&2
    mv "$new" "$target"
}
convert() { "$APR" rosetta convert "$1" "$new" --no-capsule --dtype "$2"; }
quantise() { "$dir/llama/build/bin/llama-quantize" "$1" "$new" "$2" >/dev/null 2>"$dir/quantize.log"; }
fixture() { (cd "$root" && cargo xtask fixture "$1" "$2"); }

mkdir -p "$dir/fixtures"
for size in 0.5b 1.5b; do
    model=$dir/fixtures/qwen2.5-$size
    if [ ! -e "$model-BF16.gguf" ] || [ ! -e "$model-F16.gguf" ]; then
        [ -d "$model" ] || fixture "qwen2.5-$size" "$model" >&2
        made "$model-BF16.gguf" convert "$model" bf16
        made "$model-F16.gguf" convert "$model" f16
        rm -r "${model:?}"
    fi
    made "$model-Q4_K_M.gguf" quantise "$model-BF16.gguf" Q4_K_M
    made "$model-Q8_0.gguf" quantise "$model-BF16.gguf" Q8_0
done
if [ "${ONLY:-}" = prepare ]; then
    exit
fi

programs=()
for peer in "${peers[@]}"; do
    case $peer in
    llama.cpp) programs+=(--llama-cpp "$dir/llama/measure") ;;
    candle)
        CARGO_TARGET_DIR=$dir/candle RUSTFLAGS="-C target-cpu=native" nice -n 19 \
            cargo build --release --quiet --locked --manifest-path "$here/candle/Cargo.toml"
        programs+=(--candle "$dir/candle/release/measure")
        ;;
    *)
        echo "no peer is called $peer; there are llama.cpp and candle" >&2
        exit 2
        ;;
    esac
done

python3 "$here/compare.py" --results "$results" --apr "$APR" "${programs[@]}" --fixtures "$dir/fixtures" \
    --pairs "${PAIRS:-5}" --cpus "${CPUS:-0 1}" "${cells[@]}"
