-- SPDX-License-Identifier: Apache-2.0
-- All reference networks, from the oracles beside the tree where they are there.
local oracle = dofile "tests/stdlib/nn/oracle.lua"
if not oracle.here() then return end

for _, name in ipairs { "mlp_relu", "mlp_gelu_norm", "resnet_eval", "vit", "bert", "llama" } do
  oracle.run(oracle.check, name)
end
oracle.run(oracle.check, "resnet_train", { mode = "train" })

-- The top of the spectrum of a real network on 512 images is that of the products: H v = lambda v.
do
  local m = oracle.read "../shared/oracles/net/curvature/fashion_top.safetensors"
  local parameters = oracle.read(oracle.folder .. "mlp_relu.safetensors")
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
