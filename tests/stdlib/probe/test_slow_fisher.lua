-- SPDX-License-Identifier: Apache-2.0
-- Gradients of single examples of all reference networks, from the oracles beside the tree where they are there.
local oracle = dofile "tests/stdlib/probe/oracle.lua"
local folder = "../shared/oracles/net/networks/"

local file = io.open(folder .. "llama.safetensors", "rb")
if not file then
  print("skipped: " .. folder .. " is not there")
  return
end
file:close()

local function run(name, make, o)
  local path = folder .. name .. ".safetensors"
  local _, about = oracle.read(path)
  oracle.check_examples(path, make(about.setting), o)
end

run("mlp_relu", function(s) return nn.mlp { sizes = s.sizes, act = s.act } end)
run("mlp_gelu_norm", function(s) return nn.mlp { sizes = s.sizes, act = s.act, norm = "layer", eps = s.eps } end)
run("resnet_eval", function(s) return nn.resnet { widths = s.widths, blocks = { 1, 1, 1 }, eps = s.eps } end)
run("bert", function(s)
  return nn.bert { width = s.hidden, layers = s.layers, heads = s.heads, inner = s.inner, vocab = s.vocab, context = s.positions,
    classes = s.classes, eps = s.eps }
end)
local function llama(s)
  return nn.llama { width = s.hidden, layers = s.layers, heads = s.heads, kv_heads = s.kv_heads, inner = s.inner, vocab = s.vocab,
    eps = s.eps, rope_base = s.rope_theta, tied = s.tied }
end
run("llama", llama, { kinds = { "empirical" } })
run("llama", llama, { kinds = { "exact" }, dtypes = { "f64" } }) -- every token at every place
