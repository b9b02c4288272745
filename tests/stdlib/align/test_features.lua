-- SPDX-License-Identifier: Apache-2.0
-- Moments of features, as alignments show them: against a plain formula on captured activations, under other
-- batches, where means are large, and where they are taken.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"

-- Mean correlation of feature j of a with feature j of b, over rows [samples, features], with two passes.
local function plain(x, y, eps)
  local function rows(t)
    local s = t.shape
    return t:to("f64"):reshape { t:numel() // s[#s], s[#s] }
  end
  x, y = rows(x), rows(y)
  x, y = x - x:mean(1), y - y:mean(1)
  local n = x.shape[1]
  local sx, sy = (x * x):mean(1):sqrt() + eps, (y * y):mean(1):sqrt() + eps
  return ((x * y):mean(1) / (sx * sy)):mean(), n
end

local function found(p, part)
  for _, m in ipairs(p.matched) do
    if m.part == part then return m end
  end
  error("no " .. part)
end

-- Behind activations and before them; how many samples.
do
  local net = nn.mlp { 10, 16, 12, 4 }
  local a, b, x = copies.model(net, 1, "f64"), copies.model(net, 2, "f64"), tensor.randn({ 60, 10 }, 3, { dtype = "f64" })
  local function both(path, o) return net:capture(a, x, path, o)[path], net:capture(b, x, path, o)[path] end
  local p = align.activations(net, a, b, { data = { x = x } })
  for _, part in ipairs { "fc2", "fc3" } do
    local y, z = both(part, { of = "input" })
    local m, want, n = found(p, part), plain(y, z, 1e-4)
    check.near(m.before, want, 1e-12, part)
    check.equal({ m.samples, m.side }, { n, "input" })
    assert(m.after > m.before)
  end
  p = align.activations(net, a, b, { data = { x = x }, site = "pre", eps = 0.5 })
  local y, z = both "fc2"
  check.near(found(p, "fc2").before, (plain(y, z, 0.5)), 1e-12, "fc2")
end

-- The batch does not matter, nor that only some examples of more are taken.
do
  local net = nn.mlp { 10, 16, 12, 4, act = "tanh" }
  local a, b, x = copies.model(net, 1, "f64"), copies.model(net, 2, "f64"), tensor.randn({ 60, 10 }, 3, { dtype = "f64" })
  local function numbers(data, o)
    local out = {}
    o.data = data
    for _, m in ipairs(align.activations(net, a, b, o).matched) do
      out[#out + 1], out[#out + 2] = m.before, m.after
    end
    o.ridge = 0.1
    for _, m in pairs(align.cca(net, a, b, o).maps) do out[#out + 1] = m.forward:abs():sum() / m.forward:numel() end
    return out
  end
  local want = numbers({ x = x }, { batch = 60 })
  for _, size in ipairs { 1, 7, 30 } do
    for k, v in ipairs(numbers({ x = x }, { batch = size })) do check.near(v, want[k], 1e-12, "batches of " .. size) end
  end
  local more = { x = tensor.cat({ x, 100 * x }, 1) }
  for k, v in ipairs(numbers(more, { batch = 16, examples = 60 })) do check.near(v, want[k], 1e-12, "examples") end
end

-- In f32 the same maps are found as in f64, and correlations within 1e-5; batches of all sizes, slabs too.
do
  local d = data.digits().train
  local x = d:batch(1, 1000).x
  local function wide(m) return m:cast "f64" end
  local mlp, conv = nn.mlp { 64, 128, 64, 10 }, nn.conv { 6, "M", 8, hidden = { 9 }, input = { 8, 8, 1 } }
  local list = { { mlp, model.load "examples/data/base.safetensors", model.load "examples/data/twin.safetensors" },
    { conv, copies.model(conv, 1), copies.model(conv, 2) } }
  for i, one in ipairs(list) do
    local net, a, b = table.unpack(one)
    local own = i == 1 and x or x:reshape { 1000, 8, 8, 1 }
    local want = align.activations(net, wide(a), wide(b), { data = { x = own:to "f64" }, check = false })
    for _, size in ipairs { 16, 130, 1000 } do
      local p = align.activations(net, a, b, { data = { x = own }, batch = size, check = false })
      for c, m in pairs(want.maps) do check.equal(p.maps[c].index:totable(), m.index:totable(), net.kind) end
      for k, m in ipairs(want.matched) do
        check.near(p.matched[k].before, m.before, 1e-5, net.kind)
        check.near(p.matched[k].after, m.after, 1e-5, net.kind)
      end
    end
  end
end

-- Means that are a million times the deviations leave correlations as they are.
do
  local net = nn.mlp { 5, 6, 2, act = "identity" }
  local a, b = copies.model(net, 1, "f64"), copies.model(net, 2, "f64")
  local d = { x = tensor.randn({ 50, 5 }, 3, { dtype = "f64" }) }
  local function far(m)
    local list = {}
    for i, name in ipairs(m:names()) do list[i] = { name, m:tensor(name) + (name == "fc1.bias" and 1e6 or 0) } end
    return model.new(list)
  end
  local want = align.activations(net, a, b, { data = d }).matched[1].before
  check.near(align.activations(net, far(a), far(b), { data = d, batch = 8 }).matched[1].before, want, 1e-9)
end

-- Places of an image are samples, and are taken before they are pooled or flattened; tokens are samples.
do
  local net = nn.conv { 4, "M", 6, hidden = { 8 }, input = { 8, 8, 1 } }
  local a, b, x = copies.model(net, 1), copies.model(net, 2), tensor.randn({ 9, 8, 8, 1 }, 3)
  local p = align.activations(net, a, b, { data = { x = x }, batch = 4 })
  check.equal({ p.matched[1].samples, p.matched[2].samples, p.matched[3].samples }, { 9 * 64, 9 * 16, 9 })
  check.equal({ p.matched[1].part, p.matched[2].part }, { "features.3", "flatten" })
  local function before(part, of) return net:capture(a, x, part, of)[part], net:capture(b, x, part, of)[part] end
  local y, z = before("features.3", { of = "input" })
  check.near(p.matched[1].before, (plain(y, z, 1e-4)), 1e-6)
  -- Behind batch norms, not before them, where sites are "pre".
  p = align.activations(net, a, b, { data = { x = x }, site = "pre" })
  check.equal({ p.matched[1].part, p.matched[2].part, p.matched[3].part }, { "features.1", "features.5", "classifier.0" })
end
do
  local net = nn.llama { vocab = 20, width = 16, layers = 1, heads = 4, kv_heads = 2, inner = 12 }
  local a, b = copies.model(net, 1), copies.model(net, 2)
  local p = align.activations(net, a, b, { data = { x = tensor.randint(0, 20, { 3, 10 }, 1) } })
  local m = found(p, "model.layers.0.self_attn.o_proj")
  check.equal({ m.samples, m.size }, { 30, 16 })
  check.equal(#p.left, 0)
end

-- Features that never move have no correlation with any, and harm none.
do
  local net = nn.mlp { 6, 8, 3 }
  local a = copies.model(net, 1)
  local b = copies.moved(net, a, 2)
  local function dead(m, unit)
    local w, v = m["fc1.weight"]:clone(), m["fc1.bias"]:clone()
    w[unit]:zero_()
    v:set_(unit, -1)
    local list = {}
    for i, name in ipairs(m:names()) do list[i] = { name, name == "fc1.weight" and w or name == "fc1.bias" and v or m[name] } end
    return model.new(list)
  end
  for _, eps in ipairs { 0, 1e-4 } do
    local p = align.activations(net, dead(a, 3), dead(b, 5), { data = { x = tensor.randn({ 80, 6 }, 3) }, eps = eps })
    assert(p.change < 1e-5 and p.matched[1].after > 0.5, p.matched[1].after)
  end
end

-- What is refused.
do
  local net = nn.mlp { 6, 8, 3 }
  local a = copies.model(net, 1)
  local d = { x = tensor.randn({ 8, 6 }, 3) }
  check.raises("data = … is needed", align.activations, net, a, a)
  check.raises("\"post\" or \"pre\"", align.activations, net, a, a, { data = d, site = "middle" })
  check.raises("measure = \"cosine\"", align.activations, net, a, a, { data = d, measure = "cosine" })
  check.raises("batch is a whole number", align.activations, net, a, a, { data = d, batch = 0 })
  check.raises("examples is a whole number", align.activations, net, a, a, { data = d, examples = 0.5 })
  check.raises("expected data", align.activations, net, a, a, { data = 5 })
  check.raises("did you mean", align.activations, net, a, a, { data = d, mesure = "covariance" })
end
