#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `tarn merge`: what mergekit wrote for the same configurations (tests/golden/merge), every refusal
# with its message and nothing left behind, and the language of configurations (merge.lua).
# usage: test_merge.sh TARN
set -u
tarn=$1
here=$(cd "$(dirname "$0")" && pwd)
golden=$here/../golden/merge
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
ln -s "$golden/inputs" inputs
ln -s "$golden/cases" cases
ln -s "$here/../golden/lora" lora
mkdir rejects
cp "$golden"/rejects/*.yml rejects
failed=0
wrong() {
    echo "FAILED: $*"
    failed=1
}

# ---- what mergekit wrote; the tolerances are those of its rounding after each step ----

same() {  # case rtol atol
    "$tarn" merge --quiet "cases/$1.yml" "out/$1" || wrong "$1 does not run"
    "$tarn" diff "out/$1/model.safetensors" "cases/$1.safetensors" --rtol "$2" --atol "$3" \
        >diff.txt 2>&1 || wrong "$1: $(head -3 diff.txt)"
}
same linear-main-bf16 0.0079 1e-6
same slerp-main-bf16 0.0079 1e-6
same nuslerp-main-bf16 0.0079 0.008
same task_arithmetic-main-bf16 0.0079 0.001
# magnitudes tie in bf16, and mergekit's sort is unstable: so many elements of a tensor may differ
"$tarn" merge --quiet cases/ties-main-bf16.yml out/ties || wrong "ties does not run"
"$tarn" diff --json out/ties/model.safetensors cases/ties-main-bf16.safetensors --rtol 0.0079 \
    --atol 0.004 >diff.txt 2>&1
"$tarn" -e '
local seen = 0
for line in io.lines "diff.txt" do
  local name, wrong = line:match "\"name\":\"([^\"]+)\".*\"wrong\":(%d+)"
  if name then
    seen = seen + 1
    local n = model.open("cases/ties-main-bf16.safetensors"):info(name).numel
    assert(tonumber(wrong) <= math.max(28, 0.02 * n), name)
  end
end
assert(seen == 30)' >/dev/null || wrong "ties-main-bf16: $(head -3 diff.txt)"
# in f32 hardly anything ties, but arcee_fusion's importance in mergekit is rounding near the threshold
few() {  # case, elements of a tensor that may differ
    "$tarn" merge --quiet "cases/$1-few-f32.yml" "out/$1" || wrong "$1 does not run"
    "$tarn" diff --json "out/$1/model.safetensors" "cases/$1-few-f32.safetensors" --rtol 2e-6 \
        --atol 1e-6 >diff.txt 2>&1
    "$tarn" -e '
local seen = 0
for line in io.lines "diff.txt" do
  local wrong = line:match "\"name\":.*\"wrong\":(%d+)"
  if wrong then
    seen = seen + 1
    assert(tonumber(wrong) <= tonumber(arg[1]), line)
  end
end
assert(seen == 4)' "$2" >/dev/null || wrong "$1: $(head -3 diff.txt)"
}
few breadcrumbs 0
few breadcrumbs_ties 0
few sce 0
few sce-topk 0
few ram 0
few ramplus_tl 0
few nearswap 0
few arcee_fusion 4
"$tarn" replay out/ties >/dev/null || wrong "the plan of ties does not replay"

# ---- tokenizers and parts of models, as mergekit brings them together ----

for model in one two three; do ln -s "$here/../golden/tokenizer/$model" "$model"; done
for model in t5a t5b vla vlb; do ln -s "$here/../golden/modules/$model" "$model"; done
for case in "$here"/../golden/tokenizer/cases/*.yml "$here"/../golden/modules/cases/*.yml; do
    name=$(basename "$case" .yml)
    stored=$(dirname "$case")/$name
    "$tarn" merge --quiet "$case" "out/$name" || wrong "$name does not run"
    "$tarn" diff "out/$name/model.safetensors" "$stored.safetensors" --rtol 2e-6 --atol 1e-6 >diff.txt 2>&1 ||
        wrong "$name: $(head -3 diff.txt)"
    "$tarn" -e '
local decode = require("json.decode").decode
local function read(path)
  local file = io.open(path)
  return file and file:read "a"
end
local function equal(a, b, where)
  if type(a) ~= "table" or type(b) ~= "table" then return assert(a == b, where) end
  for k, v in pairs(a) do equal(v, b[k], where .. "." .. k) end
  for k in pairs(b) do assert(a[k] ~= nil, where .. "." .. k) end
end
local out, stored, template = arg[1], arg[2], read(arg[2] .. ".jinja")
local what = template and "tokenizer.json" or "config.json"
equal(decode(read(out .. "/" .. what)), decode(read(stored .. ".json")), what)
assert(not template or read(out .. "/chat_template.jinja") == template, "the template")
local rows = decode(read(out .. "/config.json")).vocab_size
assert(not template or rows == model.open(out):info("lm_head.weight").shape[1], "vocab_size")' \
        "out/$name" "$stored" >said.txt 2>&1 || wrong "$name: $(cat said.txt)"
done

rows=$here/../golden/tokenizer/rows
"$tarn" merge --quiet --truncate-embeddings "$rows.yml" out/cut || wrong "rows does not run"
"$tarn" diff out/cut/model.safetensors "$rows.safetensors" --rtol 2e-6 --atol 1e-6 >diff.txt 2>&1 ||
    wrong "rows: $(head -3 diff.txt)"
grep -q '"vocab_size": 7' out/cut/config.json || wrong "the vocabulary that was cut is not in config.json"
"$tarn" merge --quiet "$rows.yml" out/cut2 >said.txt 2>&1 && wrong "vocabularies of several sizes are merged"
grep -qF "rows.yml:4: two has 8 rows of tokens, one has 12: tokenizer_source: union" said.txt ||
    wrong "the reason is: $(cat said.txt)"
sed 's/  shared:/  sharde:/' "$here/../golden/modules/cases/t5.yml" >part.yml
"$tarn" merge --quiet part.yml out/part >said.txt 2>&1 && wrong "a module that is none is merged"
grep -qF "part.yml:12: t5a has no module sharde; it has shared, encoder, decoder" said.txt ||
    wrong "the reason is: $(cat said.txt)"
sed '/  shared:/,/t5b}, {model: t5a}/d' "$here/../golden/modules/cases/t5.yml" >part.yml
"$tarn" merge --quiet part.yml out/part >said.txt 2>&1 && wrong "a model lacks a module"
grep -qF "part.yml:3: module shared of t5a is not listed, and the merge would lack its 1 tensors" said.txt ||
    wrong "the reason is: $(cat said.txt)"

# ---- refusals ----

"$tarn" -e '
local prose = model.open "inputs/bf16/prose"
local up = "model.layers.1.mlp.up_proj.weight"
prose:only(function(name) return name ~= up end):save "rejects/inputs/lost-tensor"
prose:slice(up, 1, 150):save "rejects/inputs/cut-tensor"
prose:only(function(name, info) return info.layer ~= 2 end):save "rejects/inputs/two-layers"
' >/dev/null || wrong "the damaged models cannot be made"
mkdir -p rejects/inputs/config-only rejects/inputs/truncated
cp inputs/bf16/prose/config.json rejects/inputs/config-only
cp inputs/bf16/prose/config.json rejects/inputs/truncated
head -c 100000 inputs/bf16/prose/model.safetensors >rejects/inputs/truncated/model.safetensors

refused() {  # case text…: each text is in the message
    name=$1
    shift
    "$tarn" merge --quiet "rejects/$name.yml" out/refused >said.txt 2>&1
    code=$?
    [ $code = 1 ] || wrong "$name: exit code $code"
    [ -e out/refused ] && wrong "$name left something behind"
    for text in "$name.yml" "$@"; do
        grep -qF -e "$text" said.txt || wrong "$name: '$text' is not in: $(cat said.txt)"
    done
}
refused unknown-method ":1: merge_method 'tiess' does not exist; did you mean 'ties'?"
refused method-missing "the key merge_method is missing"
refused base-missing "ties needs base_model"
refused weight-missing ":8: model code: unknown parameter scale for linear; model code has no weight"
refused weight-text ":8: weight of model code is the text 'heavy', expected a number"
refused weight-empty-list ":8: weight of model code is an empty list"
refused weight-mixed-list ":8: weight of model code, entry 2 is the text 'high'"
refused parameter-misspelt ":7: model prose: unknown parameter densty for ties; did you mean 'density'?"
refused parameter-misplaced ":10: unknown top-level key normalize; it belongs under parameters"
refused indentation-lost ":5: models[1]: unknown key weight beside an empty parameters (wrong indentation)"
refused density-above-one ":7: density of model prose is 1.5, outside 0..1"
refused shape-mismatch "model.layers.1.mlp.up_proj.weight: [160, 64] in prose, [150, 64] in cut-tensor"
refused tensor-missing "only in base" "model.layers.1.mlp.up_proj.weight" "lost-tensor"
refused depth-mismatch ":6: two-layers has 2 layers, prose has 3"
refused model-missing ":6: inputs/bf16/poems does not exist"
refused weights-missing ":6: rejects/inputs/config-only: holds no .safetensors file"
refused file-truncated ":6: rejects/inputs/truncated/model.safetensors" "truncated"
refused slice-out-of-range ":5: layer_range [0, 4] of model base: it has 3 layers"
refused slice-reversed ":5: layer_range [2, 1] of model base: end before begin"
refused slice-lengths ":7: slice 1: its sources span 2 and 3 layers"
refused model-twice ":6: model prose is listed twice"
refused models-and-slices ":7: both models and slices are given"
refused slerp-three-inputs ":3: slerp takes two models, one of them the base; got prose, code and base"
refused della-epsilon "density 0.9 with epsilon 0.15 of prose"
refused dtype-unknown ":9: dtype 'float17' is unknown"
refused yaml-unclosed ":3:1: syntax error: the list '[' of line 2, column 9 is not closed"
refused yaml-tab ":3:1: syntax error" "a tab in the indentation"
refused yaml-bomb ":6:45: more than 1000000 values"
refused yaml-object-tag ":1:15: the tag !!python/object/apply:os.getcwd is not accepted"

# A head from one model and the embedding from another, of which one is tied: the output would have none, or one
# that its config.json says is tied. A last slice of no layers takes both from one.
"$tarn" -e 'model.open("inputs/bf16/prose"):only(function(_, info) return info.place ~= "head" end):save "tied"' \
    >/dev/null || wrong "the tied model cannot be made"
sed 's/"tie_word_embeddings": false/"tie_word_embeddings": true/' inputs/bf16/prose/config.json >tied/config.json
for pair in "inputs/bf16/prose tied" "tied inputs/bf16/prose"; do
    printf 'merge_method: passthrough\nslices:\n- sources: [{model: %s, layer_range: [0, 2]}]\n' "${pair% *}" >mixed.yml
    printf -- '- sources: [{model: %s, layer_range: [1, 3]}]\n' "${pair#* }" >>mixed.yml
    "$tarn" merge --quiet mixed.yml out/mixed >said.txt 2>&1 && wrong "$pair: one head is tied, the other is not"
    grep -qF "mixed.yml:4: the head would come from ${pair##*[ /]}" said.txt || wrong "the reason is: $(cat said.txt)"
    printf -- '- sources: [{model: %s, layer_range: [0, 0]}]\n' "${pair% *}" >>mixed.yml
    "$tarn" merge --quiet --force mixed.yml out/mixed || wrong "$pair: head and embedding of one model"
done

# A body without a head, untied, lacks nothing that the last slice gives; a stored copy of a tied head is another's.
mkdir body both
cp tied/model.safetensors body && cp inputs/bf16/prose/config.json body
cp inputs/bf16/prose/model.safetensors both && cp tied/config.json both
for first in body tied; do
    last=inputs/bf16/prose
    [ $first = tied ] && last=both
    printf 'merge_method: passthrough\nslices:\n- sources: [{model: %s, layer_range: [0, 2]}]\n' $first >mixed.yml
    printf -- '- sources: [{model: %s, layer_range: [1, 3]}]\n' $last >>mixed.yml
    "$tarn" merge --quiet --force mixed.yml out/mixed >$first.txt 2>&1
    [ $? = $([ $first = body ]; echo $?) ] || wrong "$first first: $(cat $first.txt)"
done
grep -qF "mixed.yml:4: lm_head.weight is tied to the embedding, which would come from tied, and both has it stored" \
    tied.txt || wrong "the reason is: $(cat tied.txt)"

# A whole model with adapters inside is no adapter.
"$tarn" -e 'local m = model.open "inputs/bf16/prose"
model.join { m, m:fill { {"model.layers.0.q.lora_A.weight", {2, 2}, std = 0.1} } }:save "inside"' >said.txt 2>&1 ||
    wrong "a model with adapters inside: $(cat said.txt)"
printf 'merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: inside}, {model: inputs/bf16/prose}]\n' >inside.yml
"$tarn" merge --quiet --missing drop inside.yml out/inside >said.txt 2>&1 || wrong "adapters inside: $(cat said.txt)"

mkdir ad && cp lora/r4_qv/adapter_* ad
printf 'merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: lora/base_llama}, {model: ad}]\n' >ad.yml
"$tarn" merge --quiet ad.yml out/ad >said.txt 2>&1 && wrong "an adapter is merged as a model"
grep -qF "ad.yml:3: ad is an adapter, not a model; a model with it is written MODEL+ad" said.txt ||
    wrong "the reason is: $(cat said.txt)"
printf 'merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: tied}, {model: inputs/bf16/prose}]\n' >drop.yml
"$tarn" merge --quiet drop.yml out/drop >said.txt 2>&1 && wrong "a tied model comes first"
grep -qF "hint: --missing drop" said.txt || wrong "the hint is: $(cat said.txt)"
printf 'merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: one}]\ntokenizer_source: unoin\n' >union.yml
"$tarn" merge --quiet union.yml out/union >said.txt 2>&1 && wrong "a tokenizer called unoin"
grep -qF 'union.yml:4: source = unoin; expected "union", "base", a model or a folder with a tokenizer' said.txt ||
    wrong "the reason is: $(cat said.txt)"

# Other kinds of checkpoint are told by what they begin with.
kind() {  # first bytes, what it is
    { printf "$1"; head -c 64 /dev/zero; } >kind.bin
    printf 'merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: kind.bin}]\n' >kind.yml
    "$tarn" merge --quiet kind.yml out/kind >said.txt 2>&1 && wrong "$2 is merged"
    grep -qF "kind.yml:3: kind.bin: is $2; tarn reads safetensors only" said.txt || wrong "the reason is: $(cat said.txt)"
}
kind 'PK\003\004\000\000\010\010' "a PyTorch checkpoint, or another zip file"
kind '\200\002\212\nl\374\234F' "a PyTorch checkpoint in the old form"
kind 'GGUF\003\000\000\000' "a GGUF file"

# ---- arguments ----

"$tarn" merge cases/linear-main-bf16.yml out/size --shard-size 5B >said.txt 2>&1
[ $? = 2 ] && grep -qF "5B is no size; expected bytes" said.txt || wrong "--shard-size 5B: $(cat said.txt)"
"$tarn" merge --json cases/slerp-main-bf16.yml out/planned >said.txt 2>&1
[ $? = 2 ] && grep -qF -e "--json goes with --plan" said.txt || wrong "--json alone: $(cat said.txt)"
"$tarn" merge --plan --json cases/slerp-main-bf16.yml out/planned | "$tarn" -e '
local p = require("json.decode").decode(io.read "a")
assert(p.passes == 2 and #p.tensors == 30 and p.plan.tarn == "plan")' >/dev/null || wrong "--plan --json"
"$tarn" replay out/ties --json | grep -qF '{"model":"out/ties","result":"same","detail":""}' || wrong "replay --json"

"$tarn" merge cases/linear-main-bf16.yml >said.txt 2>&1
[ $? = 2 ] || wrong "a missing OUT is no usage error"
"$tarn" merge cases/linear-main-bf16.yml out/linear-main-bf16 >said.txt 2>&1 && wrong "an output was replaced"
"$tarn" merge --quiet cases/linear-main-bf16.yml out/linear-main-bf16 --force --dtype f32 ||
    wrong "--force"
"$tarn" -e 'assert(model.open("out/linear-main-bf16"):dtype() == "f32")' >/dev/null || wrong "--dtype"
grep -q '"dtype": "float32"' out/linear-main-bf16/config.json || wrong "config.json keeps the old dtype"
"$tarn" merge rejects/tensor-missing.yml out/lost --quiet --missing base || wrong "--missing base"
"$tarn" merge --plan cases/slerp-main-bf16.yml out/planned | grep -q slerp || wrong "--plan"
[ -e out/planned ] && wrong "--plan wrote something"

"$tarn" "$here/merge.lua" "$tarn" || wrong "merge.lua"
exit $failed
