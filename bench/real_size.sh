#!/usr/bin/env bash
# Convert and run a model of real size; measure time and peak memory, and check that nothing is lost.
#
#   bench/real_size.sh DIR [WORK]
#
# DIR is a Transformers directory, such as `cargo xtask fixture qwen2.5-0.5b DIR` writes. WORK is an empty or new
# directory on the same file system, for about seven times the model's size; what the script writes there is removed.
# Prints one line per step and what is required of it. Exits with 1 where a requirement is missed.
#
# Environment: APR      the command (target/release/apr)
#              PAIRS    conversions timed in turn with cp (5)
#              THREADS  of generation (2)
# Needs GNU time and sha256sum.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 DIR [WORK]" >&2
    exit 2
fi
apr=${APR:-$(dirname "$0")/../target/release/apr}
pairs=${PAIRS:-5}
threads=${THREADS:-2}
model=$(cd "$1" && pwd)
work=${2:-$model.work}
mkdir -p "$work"
work=$(cd "$work" && pwd)
if [ -n "$(ls -A "$work")" ]; then
    echo "$work is not empty" >&2
    exit 2
fi
trap 'rm -rf "${work:?}"/*' EXIT

missed=0
row() { printf '%-26s %9s %12s   %s\n' "$@"; }

# Says whether a requirement (an awk condition) is met.
require() {
    if awk "BEGIN { exit !($1) }"; then echo "ok: $1"; else echo "MISSED: $1"; fi
}

# Runs a command quietly; leaves its wall time in $seconds, its peak resident set in $peak (MiB).
measure() {
    if ! /usr/bin/time -o "$work/measured" -f '%e %M' "$@" >"$work/stdout" 2>"$work/stderr"; then
        echo "failed: $*" >&2
        cat "$work/stderr" >&2
        exit 1
    fi
    read -r seconds peak <"$work/measured"
    peak=$((peak / 1024))
}

# step LABEL PEAK_LIMIT_MIB COMMAND...: measures, prints, and checks the peak.
step() {
    local label=$1 limit=$2
    shift 2
    measure "$@"
    local verdict
    verdict=$(require "$peak < $limit")
    case $verdict in MISSED*) missed=1 ;; esac
    row "$label" "$seconds s" "$peak MiB" "$verdict"
}

same_files() {
    local a b
    a=$(cd "$1" && sha256sum -- * | sort)
    b=$(cd "$2" && sha256sum -- * | sort)
    [ "$a" = "$b" ]
}

# fact LABEL COMMAND...: something that holds or not.
fact() {
    local label=$1
    shift
    if "$@"; then
        row "$label" "" "" "ok"
    else
        missed=1
        row "$label" "" "" "MISSED"
    fi
}

json_number() { sed -n "s/^ *\"$1\": \([0-9.]*\),*$/\1/p" "$2" | head -n 1; }
json_string() { sed -n "s/^ *\"$1\": \"\(.*\)\",*$/\1/p" "$2" | head -n 1; }
median() { sort -n | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
spread() { sort -n | awk 'NR == 1 { low = $1 } END { print low "-" $1 }'; }

"$apr" inspect "$model" --json >"$work/inspect"
model_bytes=$(json_number file_bytes "$work/inspect")
vocab=$(json_number vocab_size "$work/inspect")
hidden=$(json_number hidden_size "$work/inspect")
# The embedding in bf16 is the largest tensor.
conversion_limit=$((vocab * hidden * 2 / 1048576 + 256))
run_limit=$((model_bytes * 13 / 10 / 1048576))
rm "$work/inspect"
echo "model: $model, $((model_bytes / 1048576)) MiB; $(nproc) processors, load $(cut -d' ' -f1-3 /proc/loadavg)"
echo

row step time "peak memory" required
step "inspect" 256 "$apr" inspect "$model"
step "S to G" "$conversion_limit" "$apr" rosetta convert "$model" "$work/sg.gguf"
step "G to A" "$conversion_limit" "$apr" rosetta convert "$work/sg.gguf" "$work/sga.apr"
step "A to S" "$conversion_limit" "$apr" rosetta convert "$work/sga.apr" "$work/sgas/"
fact "S-G-A-S: same SHA-256" same_files "$model" "$work/sgas"
rm -r "$work/sgas"
step "G to S" "$conversion_limit" "$apr" rosetta convert "$work/sg.gguf" "$work/sgs/"
fact "S-G-S: same SHA-256" same_files "$model" "$work/sgs"
rm -r "$work/sgs"
step "S to A" "$conversion_limit" "$apr" rosetta convert "$model" "$work/sa.apr"
step "A to G" "$conversion_limit" "$apr" rosetta convert "$work/sa.apr" "$work/sag.gguf"
step "S-A-G to S" "$conversion_limit" "$apr" rosetta convert "$work/sag.gguf" "$work/sags/"
fact "S-A-G-S: same SHA-256" same_files "$model" "$work/sags"
rm -r "$work/sags"
step "S-A-G to A" "$conversion_limit" "$apr" rosetta convert "$work/sag.gguf" "$work/saga.apr"
fact "S-A-G-A: same SHA-256" cmp -s "$work/sa.apr" "$work/saga.apr"
step "S-A-G-A to S" "$conversion_limit" "$apr" rosetta convert "$work/saga.apr" "$work/sagas/"
fact "S-A-G-A-S: same SHA-256" same_files "$model" "$work/sagas"
rm -r "$work/sagas" "$work/saga.apr" "$work/sag.gguf" "$work/sa.apr"
step "verify S G" "$run_limit" "$apr" rosetta verify "$model" "$work/sg.gguf"
step "verify S A" "$run_limit" "$apr" rosetta verify "$model" "$work/sga.apr"
echo

prompt="Write a function that adds two numbers."
digests=()
step "S to Q8_0 G" "$conversion_limit" "$apr" rosetta convert "$model" "$work/q8_0.gguf" --dtype q8_0
for of in "S:$model" "G:$work/sg.gguf" "A:$work/sga.apr" "Q8_0 G:$work/q8_0.gguf"; do
    file=${of#*:}
    limit=$(($(du -sb "$file" | cut -f1) * 13 / 10 / 1048576))
    step "run ${of%%:*}, 8 tokens" "$limit" "$apr" run "$file" "$prompt" -n 8 -t "$threads" --json
    digests+=("$(json_string logits_digest "$work/stdout")")
    measure "$apr" run "$file" "$prompt" -n 32 -t "$threads" --json
    rate=$(json_number decode_tokens_per_second "$work/stdout")
    row "    decode" "$(printf '%.1f/s' "$rate")" "" "goal 8 tokens/s, $threads threads, load $(cut -d' ' -f1 /proc/loadavg)"
done
fact "S, G, A: equal logits" test "${digests[0]}" = "${digests[1]}" -a "${digests[1]}" = "${digests[2]}"
rm "$work/q8_0.gguf"
echo

# The same bytes by cp, by cp and brought to disk, and by a conversion, which does the latter too; in turn, so that
# what else happens on the machine happens to all three.
copy_synced() {
    cp -r "$1" "$2"
    find "$2" -type f -exec sync {} +
}
export -f copy_synced
in_turn() {
    local label=$1 source=$2 target=$3 i
    : >"$work/cp" && : >"$work/synced" && : >"$work/apr"
    cp -r "$source" "$work/copy" && rm -r "$work/copy"
    for ((i = 0; i < pairs; i++)); do
        measure cp -r "$source" "$work/copy"
        echo "$seconds" >>"$work/cp"
        rm -r "$work/copy"
        measure bash -c 'copy_synced "$@"' copy "$source" "$work/copy"
        echo "$seconds" >>"$work/synced"
        rm -r "$work/copy"
        measure "$apr" rosetta convert "$source" "$target"
        echo "$seconds" >>"$work/apr"
        rm -r "$target"
    done
    local cp synced converted ratio
    cp=$(median <"$work/cp")
    synced=$(median <"$work/synced")
    converted=$(median <"$work/apr")
    ratio=$(awk "BEGIN { printf \"%.2f\", $converted / $cp }")
    verdict=$(require "$ratio <= 3")
    case $verdict in MISSED*) missed=1 ;; esac
    printf '%-8s %6.2f (%s)  %6.2f (%s)  %6.2f (%s)  %s of cp, %s of cp and sync; %s\n' "$label" \
        "$cp" "$(spread <"$work/cp")" "$synced" "$(spread <"$work/synced")" "$converted" "$(spread <"$work/apr")" \
        "$ratio" "$(awk "BEGIN { printf \"%.2f\", $converted / $synced }")" "$verdict"
}
echo "medians of $pairs in s (lowest-highest): cp -r, cp -r and sync, conversion"
in_turn "S to G" "$model" "$work/new.gguf"
in_turn "S to A" "$model" "$work/new.apr"
in_turn "G to S" "$work/sg.gguf" "$work/new/"
in_turn "G to A" "$work/sg.gguf" "$work/new.apr"
in_turn "A to S" "$work/sga.apr" "$work/new/"
in_turn "A to G" "$work/sga.apr" "$work/new.gguf"
echo
echo "load at the end: $(cut -d' ' -f1-3 /proc/loadavg)"
exit $missed
