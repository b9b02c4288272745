#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `tarn convert`: the script that it writes makes the bytes that `tarn merge` makes, for every stored case
# of mergekit and for the odd corners of its language; what merge refuses convert refuses.
# usage: test_convert.sh TARN
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
failed=0
wrong() {
    echo "FAILED: $*"
    failed=1
}

same() {  # config
    name=$(basename "$1" .yml)
    rm -rf a b
    "$tarn" merge --quiet "$1" a 2>said.txt || wrong "$name does not merge: $(cat said.txt)"
    "$tarn" convert "$1" >"$name.lua" 2>said.txt || wrong "$name does not convert: $(cat said.txt)"
    "$tarn" --quiet "$name.lua" b 2>said.txt || wrong "the script of $name fails: $(cat said.txt)"
    cmp -s a/model.safetensors b/model.safetensors || wrong "$name: other bytes"
    for file in config.json tokenizer.json tokenizer_config.json chat_template.jinja; do
        [ ! -e a/$file ] && [ ! -e b/$file ] || cmp -s a/$file b/$file || wrong "$name: another $file"
    done
    awk 'length > 140 { exit 1 }' "$name.lua" || wrong "$name: a line nobody can read"
}
holds() {  # name text…: each is in the script
    name=$1
    shift
    for text in "$@"; do
        grep -qF -e "$text" "$name.lua" || wrong "$name: '$text' is not in: $(cat "$name.lua")"
    done
}
config() {  # name: standard input
    cat >"$1.yml"
}

for case in cases/*.yml; do
    same "$case"
done
holds ties-main-bf16 'local base = model.open("inputs/bf16/base")' 'merge.ties {' '  base = base, ' \
    '  trim = "tensor",  -- mergekit'"'"'s variant' '`tarn methods ties`' 'merged:save(arg[1] or "merged"'

# one tokenizer for all, and parts of models
for model in one two three; do ln -s "$here/../golden/tokenizer/$model" "$model"; done
for model in t5a t5b vla vlb; do ln -s "$here/../golden/modules/$model" "$model"; done
for case in "$here"/../golden/tokenizer/cases/*.yml "$here"/../golden/modules/cases/*.yml; do
    same "$case"
done
config two-tokenizers <<'END'
name: first
merge_method: linear
parameters: {weight: 1}
models: [{model: one}, {model: two}]
tokenizer_source: union
---
merge_method: linear
parameters: {weight: 1}
models: [{model: three}, {model: first}]
tokenizer_source: union
END
same two-tokenizers.yml
holds two-tokenizers 'files = { [2] = files },' 'files = files_2 })'
holds tokens 'local same, files = model.one_tokenizer {' '["<|im_start|>"] = { from = { 1, "cd" } },' \
    'local files_2 = model.chat_template(same[1], "{% for m in' 'files = files_2 })'
holds t5 'local t5a_encoder = t5a:only([[^encoder\.]])' ':renumber(2, { stack = "encoder.block" })'

# gradients in slices, also of one layer (its last value), filters at every level
config slices <<'END'
merge_method: ties
base_model: inputs/bf16/base
slices:
  - sources:
      - {model: inputs/bf16/base, layer_range: [0, 2]}
      - {model: inputs/bf16/prose, layer_range: [1, 3], parameters: {weight: [{filter: layers.2, value: 0.9}, {filter: mlp, value: [0.1, 0.3]}]}}
      - {model: inputs/bf16/code, layer_range: [0, 2], parameters: {weight: [0.25, 1], density: 0.5}}
    parameters: {weight: {filter: q_proj, value: 0.125}}
  - sources:
      - {model: inputs/bf16/base, layer_range: [2, 3]}
      - {model: inputs/bf16/code, layer_range: [1, 2], parameters: {weight: [0.25, 0.75]}}
parameters:
  weight: [{filter: norm, value: 0.7}, {value: 0.4}]
  density: [1, 0.3]
  lambda: [0.5, 1]
dtype: float32
END
same slices.yml
holds slices 'slice(prose, 1, 3, true, false):renumber(0)' 'local part = merge.ties {' 'local part_2 = merge.ties {' \
    'local merged = model.join { part, part_2 }' '{[[^model\.layers\.0\.mlp\.up_proj\.weight$]], 0.1}' \
    'by.depth { 0.5, 1, embed = 0.5,' 'by.layer { {2, 2, 0.75}, other = 0.25 }'

config scaled <<'END'
merge_method: passthrough
models:
  - {model: inputs/bf16/prose, parameters: {scale: [{filter: down_proj, value: [0, 1]}, {value: 1}]}}
END
same scaled.yml
holds scaled 'local scaled = by.name {' '{"down_proj", by.depth { 0, 1, embed = 0, final = 0, head = 0, other = 0 }}'

# two models of one name, names that are words of Lua, random masks, other dtypes on the way
mkdir -p x/base "x/end" y
cp inputs/bf16/base/* x/base
cp inputs/bf16/prose/* "x/end"
config names <<'END'
merge_method: dare_linear
base_model: inputs/bf16/base
models:
  - {model: x/base, parameters: {weight: 1, density: 0.5}}
  - {model: x/end, parameters: {weight: -0.0, density: 0.5}}
dtype: float16
out_dtype: bfloat16
END
same names.yml
holds names 'local base = model.open("inputs/bf16/base", { label = "inputs/bf16/base" })' 'local base_2 =' 'local model_end =' \
    ':cast("f16")' 'seed = 0,' '{ dtype = "bf16" }'
"$tarn" convert --seed 7 --dtype f32 names.yml >seeded.lua
holds seeded 'seed = 7,' '{ dtype = "f32" }'

# adapters
config adapters <<'END'
merge_method: linear
parameters: {weight: 0.5}
models:
  - {model: lora/base_llama+lora/r4_qv}
  - {model: {model: lora/base_llama, lora: {path: lora/dora/}}}
  - {model: lora/base_llama}
dtype: float16
END
same adapters.yml
holds adapters '+ model.lora("lora/r4_qv", ' ':cast("f16")'

# two stacks of layers: a gradient runs over each
"$tarn" -e '
for _, seed in ipairs { 1, 2 } do
  local t = {}
  for _, stack in ipairs { "encoder", "decoder" } do
    for l = 0, stack == "encoder" and 3 or 1 do
      t[#t + 1] = { ("%s.block.%d.w.weight"):format(stack, l), tensor.normal({ 4, 4 }, 10 * seed + #t) }
    end
  end
  t[#t + 1] = { "shared.weight", tensor.normal({ 4, 4 }, seed) }
  model.new(t):save(("y/%d.safetensors"):format(seed))
end' >/dev/null || wrong "no model of two stacks"
config stacks <<'END'
merge_method: linear
models:
  - {model: y/1.safetensors, parameters: {weight: [0, 0.3, 1]}}
  - {model: y/2.safetensors, parameters: {weight: 1}}
END
same stacks.yml
holds stacks 'local model_1 = ' '[[^encoder\.block\.([0-9]+)\.]], by.layer {' '{0, 0, 0}, {1, 1, 0.1999' '{".", 0}'

"$tarn" convert "$golden/rejects/unknown-method.yml" >out.txt 2>said.txt && wrong "a method that does not exist is converted"
[ -s out.txt ] && wrong "something is written beside an error"
grep -q "did you mean 'ties'" said.txt || wrong "the reason is: $(cat said.txt)"
exit $failed
