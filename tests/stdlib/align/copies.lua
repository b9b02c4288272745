-- SPDX-License-Identifier: Apache-2.0
-- Networks of all families with weights in which no two features are equal, data for them, and copies that compute the
-- same in another order.
local copies = {}

local function images(n) return tensor.randn({ n, 12, 12, 1 }, 1) end
local function tokens(n, vocab) return tensor.randint(0, vocab, { n, 16 }, 1) end

copies.families = {
  { "mlp", nn.mlp { 10, 16, 12, 4 }, tensor.randn({ 100, 10 }, 1) },
  { "tanh", nn.mlp { 10, 16, 12, 4, act = "tanh" }, tensor.randn({ 100, 10 }, 1) },
  { "conv", nn.conv { 8, "M", 12, hidden = { 10 }, input = { 12, 12, 1 } }, images(20) },
  { "resnet", nn.resnet { depth = 8, width = 8, input = { 12, 12, 1 } }, images(20) },
  { "vit", nn.vit { width = 32, layers = 2, heads = 4, inner = 48, patch = 4, input = { 12, 12, 1 } }, images(20) },
  { "gpt", nn.gpt { vocab = 48, width = 32, layers = 2, heads = 4, context = 16 }, tokens(20, 48) },
  { "llama", nn.llama { vocab = 48, width = 32, layers = 2, heads = 4, kv_heads = 2, inner = 40 }, tokens(20, 48) },
  { "bert", nn.bert { vocab = 40, width = 32, layers = 2, heads = 4, inner = 48, context = 16, head = "masked" },
    tokens(20, 40) },
}

-- A model with nothing at its initial value of zero or one.
function copies.model(net, seed, dtype)
  local m, list = net:init { seed = seed }, {}
  for i, name in ipairs(m:names()) do
    local t = m:tensor(name)
    if t.dtype:find "f" then
      t = (t + 0.1 * tensor.randn(t.shape, 1000 * seed + i):abs()):to(dtype or "f32")
    end
    list[i] = { name, t }
  end
  return model.new(list)
end

-- a in another order, by hard maps that have nothing to do with it.
function copies.moved(net, a, seed)
  return align.weights(net, copies.model(net, seed), a):apply(a)
end

-- The largest difference of two models.
function copies.distance(a, b)
  local most = 0.0
  for _, name in ipairs(a:names()) do
    most = math.max(most, (a:tensor(name):to "f64" - b:tensor(name):to "f64"):abs():max())
  end
  return most
end

return copies
