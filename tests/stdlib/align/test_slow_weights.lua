-- SPDX-License-Identifier: Apache-2.0
-- Matching by weights against the stored copies of six architectures (objectives of a reference matcher, see their README), and
-- how often a residual network comes back from a copy: a table of published and measured rates.
local check = dofile "tests/stdlib/bind/check.lua"
local copies = require "copies"
local decode = require "json.decode".decode

-- ---- six architectures ----

local folder = "../shared/oracles/landscape/perm/"

local function text_of(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local vgg = { conv1 = "features.0", bn1 = "features.1", conv2 = "features.4", bn2 = "features.5", conv3 = "features.8",
  bn3 = "features.9", fc1 = "classifier.0", fc2 = "classifier.3" }

local nets = {
  { "mlp", nn.mlp { 784, 128, 64, 10 } },
  { "resnet8", nn.resnet { widths = { 8, 16, 24 }, blocks = { 1, 1, 1 }, input = { 12, 12, 3 } },
    function(t) return (t:gsub("^(layer%d)%.", "%1.0.")) end },
  { "vgg", nn.conv { 8, "M", 12, "M", 16, input = { 12, 12, 3 }, hidden = { 24 } },
    function(t) return (t:gsub("^%w+", vgg)) end },
  { "bert", nn.bert { width = 32, heads = 4, layers = 2, inner = 48, vocab = 40, context = 32, head = "masked" } },
  { "gpt", nn.gpt { width = 32, heads = 4, layers = 2, inner = 64, vocab = 48, context = 32 } },
  { "llama", nn.llama { width = 32, heads = 4, kv_heads = 2, layers = 2, inner = 40, vocab = 48 } },
}

local here = io.open(folder .. "mlp/A.safetensors", "rb")
if here then here:close() else print("skipped: " .. folder .. " is not there") end

for _, row in ipairs(here and nets or {}) do
  local name, net, rename = table.unpack(row)
  local function read(which)
    local m, list = model.load(folder .. name .. "/" .. which .. ".safetensors"), {}
    for _, n in ipairs(m:names()) do list[#list + 1] = { rename and rename(n) or n, m:tensor(n) } end
    return model.new(list)
  end
  local a, want = read "A", decode(text_of(folder .. name .. "/match.json"))
  for _, which in ipairs { "B", "B_noise" } do
    local b, w = read(which), want[which]
    local p = align.weights(net, a, b, { restarts = 20 })
    local off = copies.distance(p:apply(b), a)
    check.near(p.objective, w.objective_best, 1e-6 * w.objective_best, name .. " " .. which)
    check.near(off, w.max_abs_A_minus_piB, 1e-7, name .. " " .. which .. ": distance")
    assert(p.change < 1e-5, name)
    local full = 0
    for _, s in ipairs(p.starts) do
      if s.objective > p.objective * (1 - 1e-9) then full = full + 1 end
    end
    print(("%-8s %-8s objective %.10g (reference %.10g), distance %.3g, %d of 20 starts, outputs %.1e"):format(name, which,
      p.objective, w.objective_best, off, full, p.change))
    check.equal(full, 20, name .. " " .. which .. ": starts that recover all")
  end
end

-- ---- two residual blocks, stream 30, hidden 50, normal weights and biases ----
-- The outer layers are zero, so that they say nothing; the activation at the end leaves permutations only. One start recovers 10 to 16 of 100,
-- ten starts 80, fifty 100.

do
  local function block() return nn.residual(nn.sequential { nn.linear(30, 50), nn.activation "relu", nn.linear(50, 30) }) end
  local net = nn.sequential({ { "first", nn.linear(1, 30) }, { "one", block() }, { "two", block() },
    { "act", nn.activation "relu" }, { "last", nn.linear(30, 1) } }, { input = { 1 } })
  local trials, hits = 100, { [1] = 0, [10] = 0, [50] = 0 }
  for k = 1, trials do
    local list = {}
    for i, q in ipairs(net:params()) do
      local silent = q.name:find "^first" or q.name:find "^last"
      list[i] = { q.name, silent and tensor.zeros(q.shape) or tensor.randn(q.shape, 1000 * k + i) }
    end
    local a = model.new(list)
    local b = align.random(net, { seed = k }):apply(a)
    local first = align.weights(net, a, b, { seed = k, check = false })
    local function recovered(p) return copies.distance(p:apply(b), a) == 0 end
    local function all_starts(n, p)
      if not recovered(p) then p = align.weights(net, a, b, { seed = k, restarts = n, check = false }) end
      if recovered(p) then hits[n] = hits[n] + 1 end
      return p
    end
    all_starts(50, all_starts(10, all_starts(1, first)))
  end
  print(("residual: %d, %d and %d of %d recovered by 1, 10 and 50 starts"):format(hits[1], hits[10], hits[50], trials))
  assert(hits[1] >= 5 and hits[1] <= 30, "one start")
  assert(hits[50] >= 97, "fifty starts")
end
