-- SPDX-License-Identifier: Apache-2.0
-- All reference networks, from the oracles beside the tree where they are there.
local oracle = dofile "tests/stdlib/nn/oracle.lua"
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
  oracle.check(path, make(about.setting), o)
end

run("mlp_relu", function(s) return nn.mlp { sizes = s.sizes, act = s.act } end)
run("mlp_gelu_norm", function(s) return nn.mlp { sizes = s.sizes, act = s.act, norm = "layer", eps = s.eps } end)
run("resnet_train", function(s) return nn.resnet { widths = s.widths, blocks = { 1, 1, 1 }, eps = s.eps } end, { mode = "train" })
run("resnet_eval", function(s) return nn.resnet { widths = s.widths, blocks = { 1, 1, 1 }, eps = s.eps } end)
run("vit", function(s)
  return nn.vit { width = s.hidden, layers = s.layers, heads = s.heads, inner = s.inner, patch = s.patch, eps = s.eps }
end)
run("bert", function(s)
  return nn.bert { width = s.hidden, layers = s.layers, heads = s.heads, inner = s.inner, vocab = s.vocab, context = s.positions,
    classes = s.classes, eps = s.eps }
end)
run("llama", function(s)
  return nn.llama { width = s.hidden, layers = s.layers, heads = s.heads, kv_heads = s.kv_heads, inner = s.inner, vocab = s.vocab,
    eps = s.eps, rope_base = s.rope_theta, tied = s.tied }
end)

-- The top of the spectrum of a real network on 512 images is that of the products: H v = lambda v.
do
  local m = oracle.read "../shared/oracles/net/curvature/fashion_top.safetensors"
  local parameters = oracle.read(folder .. "mlp_relu.safetensors")
  local theta = oracle.theta(parameters, "f64")
  local x = m:tensor "in.x":to "f64":reshape { 512, 28, 28, 1 }
  local f = nn.mlp { 784, 64, 32, 10 }:loss({ x = x, y = m:tensor "in.labels" }, { batch = 200 })
  local H <close> = f:linearize(theta)
  local at, list, v = 0, {}, m:tensor "hessian_top_eigenvector"
  for i, name in ipairs { "fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight", "fc3.bias", "fc3.weight" } do
    local t = theta:tensor(name)
    list[i] = { name, v[{ { at + 1, at + t:numel() } }]:reshape(t.shape) }
    at = at + t:numel()
  end
  local u = model.new(list, { mass = 0 })
  local off = (H:hvp(u) - m:tensor "hessian_top10"[1] * u):norm()
  print("eigenpair", off)
  assert(off < 1e-9)
  assert(math.abs(f(theta) - m:tensor "loss":item()) < 1e-12)
end
