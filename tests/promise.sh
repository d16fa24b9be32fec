#!/usr/bin/env bash
# The promise of the exact numerics across builds and machines: the same digest of logits from a release and a debug
# build, on every instruction set, under valgrind, and under qemu with an old and a newer processor.
#
#   tests/promise.sh
#
# Prints one row per leg and exits with 1 where a digest differs from the first row's, where a leg fails, or where a
# processor did not get the kernels that the leg is there for. What varies within one process (containers, ways of
# cutting the prompt) is in crates/apr/tests/promise.rs.
#
# Environment: RELEASE, DEBUG   the commands (target/release/apr and target/debug/apr, built when not named)
# Needs qemu-x86_64 (Debian: qemu-user) and valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."

for program in qemu-x86_64 valgrind; do
    if ! command -v "$program" >/dev/null; then
        echo "$program is not installed; apt-get install qemu-user valgrind" >&2
        exit 2
    fi
done
if [ -z "${RELEASE:-}" ]; then
    cargo build --quiet --release --bin apr
    RELEASE=target/release/apr
fi
if [ -z "${DEBUG:-}" ]; then
    cargo build --quiet --bin apr
    DEBUG=target/debug/apr
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One model per container, of three families and four dtypes. The prompt is long enough to be multiplied in tiles.
"$RELEASE" rosetta convert models/nano-qwen3/gguf/nano-qwen3-Q8_0.gguf "$work/nano-qwen3-Q8_0.apr" >/dev/null
models=(
    models/nano-qwen2/gguf/nano-qwen2-Q4_K_M.gguf
    models/nano-llama/model.safetensors
    "$work/nano-qwen3-Q8_0.apr"
    builtin:tiny
)
prompt="What is 2+2? Name the capital of France."

# An instruction set as a number: later ones include the earlier ones.
has() { grep -qw "$1" /proc/cpuinfo; }
native=scalar
if has avx2 && has fma && has f16c; then native=avx2; fi
if [ $native = avx2 ] && has avx512f && has avx512bw && has avx512dq && has avx512vl; then native=avx512; fi

failed=0
expected=()
field() { sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" "$2" | head -n 1; }

# leg TITLE ISA THREADS COMMAND...: runs the models with a command and compares; ISA is what must have been used.
leg() {
    local title=$1 isa=$2 threads=$3 i found cells="" started=$SECONDS
    shift 3
    for i in "${!models[@]}"; do
        if ! "$@" run "${models[$i]}" "$prompt" --raw -n 6 -t "$threads" --json >"$work/report" 2>"$work/errors"; then
            cells+=" failed |"
            failed=1
            tail -n 5 "$work/errors" >&2
            continue
        fi
        found=$(field logits_digest "$work/report")
        if [ "$(field isa "$work/report")" != "$isa" ]; then
            cells+=" ran $(field isa "$work/report") |"
            failed=1
        elif [ -z "$found" ]; then
            cells+=" no digest |"
            failed=1
        elif [ -z "${expected[$i]:-}" ]; then
            expected[i]=$found
            cells+=" ${found:0:12} |"
        elif [ "$found" = "${expected[$i]}" ]; then
            cells+=" ${found:0:12} |"
        else
            cells+=" **${found:0:12}** |"
            failed=1
        fi
    done
    printf '| %-38s | %-6s | %s |%s %3d s |\n' "$title" "$isa" "$threads" "$cells" $((SECONDS - started))
}

echo "| build and machine | kernels | threads | nano-qwen2 Q4_K_M GGUF | nano-llama BF16 SafeTensors | nano-qwen3 Q8_0 APR | builtin:tiny | time |"
echo "|---|---|---|---|---|---|---|---|"
for build in "release $RELEASE" "debug $DEBUG"; do
    name=${build%% *} apr=${build#* }
    for isa in scalar avx2 avx512; do
        case "$native $isa" in "scalar avx2" | "scalar avx512" | "avx2 avx512") continue ;; esac
        for threads in 1 2 5; do
            leg "$name" $isa $threads env APR_ISA=$isa "$apr"
        done
    done
    leg "$name, qemu Nehalem (no AVX, no FMA)" scalar 2 qemu-x86_64 -cpu Nehalem "$apr"
    leg "$name, qemu Haswell (AVX2, FMA)" avx2 2 qemu-x86_64 -cpu Haswell "$apr"
done
if [ $native != scalar ]; then
    # Valgrind has no AVX-512, and rounds in software only where it must.
    leg "release, valgrind" avx2 2 valgrind --quiet --error-exitcode=9 "$RELEASE"
fi
leg "release, valgrind" scalar 2 env APR_ISA=scalar valgrind --quiet --error-exitcode=9 "$RELEASE"
if [ $failed -ne 0 ]; then
    echo "the promise is broken" >&2
fi
exit $failed
