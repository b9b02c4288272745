#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Real families at their published size, as sparse folders made from the header oracles: what `tarn
# inspect --json` finds in each, the verdict of a real script on every pair that is no adapter, a plan
# over three 405B models, and the memory of a real merge. Skipped where the oracles are not; the merge,
# which writes 16 GB, only with TARN_TEST_BIG=FOLDER.
# usage: test_slow_headers.sh TARN
set -u
tarn=$1
here=$(cd "$(dirname "$0")" && pwd)
oracles=$here/../../../shared/oracles/headers
if [ ! -f "$oracles/pairs.json" ] || ! command -v python3 >/dev/null; then
    echo "skipped: $oracles or python3 is not there"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work" "$work-big"' EXIT
sparse="python3 $oracles/make_sparse.py"
status=0
wrong() {
    echo "FAILED: $*"
    status=1
}

# ---- families ----

count=0
for header in "$oracles"/*.json.gz; do
    name=$(basename "$header" .json.gz)
    $sparse "$header" "$work/$name" >/dev/null || wrong "$name cannot be made"
    gzip -dc "$header" >"$work/header.json"
    folder=$work/$name
    [ -d "$folder/base" ] && folder=$folder/base
    if [ "$name" = lora-llama-3.1-8b-r16 ]; then # an adapter is a file of its own name
        folder=$folder/adapter_model.safetensors
    fi
    "$tarn" inspect --json "$folder" >"$work/inspected.json" || wrong "$name is refused"
    "$tarn" "$here/headers.lua" "$work/inspected.json" "$oracles/expect/$name.json" "$work/header.json" || wrong "$name"
    count=$((count + 1))
    rm -rf "${work:?}/$name"
done
[ $count = 27 ] || wrong "$count families"

# ---- pairs ----

merge='local a, b = model.open(arg[1] .. "/a"), model.open(arg[1] .. "/b")
merge.linear { a, b, missing = arg[3] }:save(arg[2])'
echo "$merge" >"$work/merge.lua"

pair() {  # id
    rm -rf "$work/pair"
    $sparse --pair "$oracles/pairs.json" "$1" "$work/pair" >/dev/null || wrong "$1 cannot be made"
}

refused() {  # id, texts…: by `tarn plan` and by the script, within seconds, before anything is written
    id=$1
    shift
    pair "$id"
    for how in "" plan; do
        # shellcheck disable=SC2086
        timeout 10 "$tarn" $how "$work/merge.lua" "$work/pair" "$work/out" >"$work/said" 2>&1
        [ $? = 1 ] || wrong "$id $how: not refused: $(head -3 "$work/said")"
        [ -e "$work/out" ] && wrong "$id wrote something"
        for text in "$@"; do
            grep -qE -e "$text" "$work/said" || wrong "$id $how: '$text' is not in: $(cat "$work/said")"
        done
    done
}

planned() {  # id, texts…: a plan that holds them
    id=$1
    shift
    pair "$id"
    timeout 20 "$tarn" plan "$work/merge.lua" "$work/pair" "$work/out" >"$work/said" 2>&1 || wrong "$id: $(head -3 "$work/said")"
    for text in "$@"; do
        grep -qE -e "$text" "$work/said" || wrong "$id: '$text' is not in: $(head -5 "$work/said")"
    done
}

refused llama31-mistral "2 shapes differ" "lm_head.weight: \[128256, 4096\] in a, \[32000, 4096\] in b" "embed_tokens"
refused llama2-mistral "160 shapes differ" "up_proj" "k_proj" "32 of "
refused vocab-32000-32003 "32000" "32003" "hint:.*(gather|tokenizer|vocabular)"
refused tied-untied "lm_head.weight" "tied"
planned tied-written-twice "290 tensors"
refused missing-head "lm_head.weight" 'missing = "base"' '"zero"' '"drop"'
refused inv-freq "32 of model.layers.N.self_attn.rotary_emb.inv_freq" "constant" 'missing = "drop"'
refused inv-freq-base "32 of model.layers.N.self_attn.rotary_emb.inv_freq" "b lacks"
planned f16-bf16 "291 tensors" "bf16\["
planned shards-2-4 "291 tensors"
planned shards-405b "1137 tensors" "read 1.6 TB" "write 811.7 GB"
refused prefix "no name in common" "transformer\." "model\." "rename"
refused gpt2-published "12 of h.N.attn.bias" "constant" "rename" "transformer\."
refused gpt2-transposed "36 shapes differ" "\[768, 2304\]" "\[2304, 768\]" "12 .*square|square.* 12|transpose"
refused depth "a has 32 layers, b has 24" "72 tensors of layers 24-31"
refused bias-absent "24 of .*q_proj.bias" 'missing = "zero" is exact'
refused fused-qkv "64 only in a" "160 only in b" "qkv" "gate_up"
refused dense-moe "195 agree" "96 only in a" "800 only in b" "expert"
planned router-f32 "5291 tensors" "mlp.gate.weight bf16"
planned router-f32-base "5291 tensors" "mlp.gate.weight f32" "bf16"
planned counters-equal "320 tensors" "num_batches_tracked i64.*copied"
refused counters-differ "num_batches_tracked \(i64\) and 52 more integer tensors differ" 'on_integer = "base"'
refused inpainting "1 shape differs" "conv_in.weight: \[320, 4, 3, 3\] in a, \[320, 9, 3, 3\] in b" "685 tensors agree"

# What the hints offer leads on.
pair inv-freq
"$tarn" plan "$work/merge.lua" "$work/pair" "$work/out" drop | grep -q "291 tensors" || wrong "inv-freq with drop"
pair bias-absent
"$tarn" plan "$work/merge.lua" "$work/pair" "$work/out" zero | grep -q "290 tensors" || wrong "bias-absent with zero"

# ---- three models of 405B ----

$sparse "$oracles/llama-3.1-405b.json.gz" "$work/huge" --variants base,a,b >/dev/null
cat >"$work/huge.lua" <<'LUA'
local base, a, b = model.open(arg[1] .. "/base"), model.open(arg[1] .. "/a"), model.open(arg[1] .. "/b")
merge.ties { base = base, a, b, density = 0.2, weight = { by.depth { 0.2, 0.8 }, 1 } }:save "out"
LUA
"$tarn" plan --brief "$work/huge.lua" "$work/huge" >"$work/said" # warm
python3 - "$tarn" "$work/huge.lua" "$work/huge" >"$work/cost" <<'PY'
import os, resource, subprocess, sys, time
t = time.time()
subprocess.run([sys.argv[1], "plan", sys.argv[2], sys.argv[3]], stdout=subprocess.DEVNULL, check=True)
print("%.2f %d" % (time.time() - t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
PY
read -r seconds kilobytes <"$work/cost"
echo "plan over three 405B models: $seconds s, $kilobytes kB"
[ "$kilobytes" -lt 200000 ] || wrong "the plan takes $kilobytes kB"
[ "$(echo "$seconds < ${TARN_TEST_PLAN_SECONDS:-3}" | bc 2>/dev/null || echo 1)" = 1 ] || wrong "the plan takes $seconds s"
rm -rf "$work/huge"

# ---- a real merge of 8B ----

if [ -n "${TARN_TEST_BIG:-}" ]; then
    $sparse "$oracles/llama-3.1-8b.json.gz" "$work/8b" --variants a,b >/dev/null
    echo 'merge.linear { model.open(arg[1] .. "/a"), model.open(arg[1] .. "/b") }:save(arg[2])' >"$work/8b.lua"
    python3 - "$tarn" "$work/8b.lua" "$work/8b" "$TARN_TEST_BIG/tarn-test-8b-$$" >"$work/cost" <<'PY'
import resource, subprocess, sys
subprocess.run([sys.argv[1], "--quiet"] + sys.argv[2:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
PY
    rm -rf "$TARN_TEST_BIG/tarn-test-8b-$$"
    kilobytes=$(cat "$work/cost")
    echo "linear merge of two 8B models: $kilobytes kB resident"
    [ "${kilobytes:-999999999}" -lt 300000 ] || wrong "the merge takes $kilobytes kB"
fi
exit $status
