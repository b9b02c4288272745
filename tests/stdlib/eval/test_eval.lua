-- SPDX-License-Identifier: Apache-2.0
-- Metrics against values by hand and by another path, calibration of a predictor that is calibrated by
-- construction, statistics of batch norms, the cache, and the greedy soup as users write it.
local check = dofile "tests/stdlib/bind/check.lua"

-- The logits are the data: a network without parameters.
local function logits(_, batch) return batch.x end

-- ---- by hand ----

local x = tensor { { math.log(0.7), math.log(0.2), math.log(0.1) }, { math.log(0.5), math.log(0.25), math.log(0.25) },
  { math.log(0.1), math.log(0.3), math.log(0.6) } }
local d = { x = x, y = tensor({ 0, 1, 2 }, { dtype = "i64" }) }
local r = eval.report(logits, d)({})
check.equal(r.n, 3)
check.near(r.accuracy, 2 / 3, 1e-12)
check.near(r.error, 1 / 3, 1e-12)
local nll = -(math.log(0.7) + math.log(0.25) + math.log(0.6)) / 3
check.near(r.nll, nll, 1e-6)
check.near(r.perplexity, math.exp(nll), 1e-6)
local brier = (0.3 ^ 2 + 0.2 ^ 2 + 0.1 ^ 2 + 0.5 ^ 2 + 0.75 ^ 2 + 0.25 ^ 2 + 0.1 ^ 2 + 0.3 ^ 2 + 0.4 ^ 2) / 3
check.near(r.brier, brier, 1e-6)
check.near(r.ece, (0.3 + 0.5 + 0.4) / 3, 1e-6) -- three bins of one: |1 - 0.7|, |0 - 0.5|, |1 - 0.6|
check.tensor(r.confusion, { { 1, 0, 0 }, { 1, 0, 0 }, { 0, 0, 1 } })
for _, name in ipairs { "accuracy", "nll", "perplexity", "brier", "ece" } do
  check.equal(eval[name](logits, d)({}), r[name], name)
  check.near(eval[name](logits, d, { batch = 2 })({}), r[name], 1e-12, name .. " in two chunks")
end
check.raises("the labels go from 0 to 3", function()
  eval.accuracy(logits, { x = x, y = tensor({ 0, 1, 3 }, { dtype = "i64" }) })({})
end)
check.raises("have no labels", function() eval.accuracy(logits, { x = x })({}) end)
check.raises("expected a network", eval.accuracy, 7, d)
check.raises("expected a data set", eval.accuracy, logits, {})
check.raises("did you mean 'batch'", eval.nll, logits, d, { bach = 1 })

-- ---- rows that do not count ----

do
  local function i64(t) return tensor(t, { dtype = "i64" }) end
  local wide = { x = tensor.cat({ x, x }, 1), y = i64 { 0, -100, 2, -100, 1, -100 } }
  local kept = { x = wide.x:index_select(1, i64 { 1, 3, 5 }), y = i64 { 0, 2, 1 } }
  for _, size in ipairs { 1, 2, 1000 } do -- some chunks of one have nothing in them
    for name, v in pairs(eval.report(logits, kept)({})) do
      local got = eval.report(logits, wide, { batch = size })({})[name]
      if type(v) == "number" then check.near(got, v, 1e-12, name) else assert(got:equal(v), name) end
    end
  end
  local of_zero = { x = wide.x:index_select(1, i64 { 3, 5 }), y = i64 { 2, 1 } }
  for _, name in ipairs { "accuracy", "nll", "perplexity", "brier", "ece" } do
    check.near(eval[name](logits, kept, { ignore_index = 0 })({}), eval[name](logits, of_zero)({}), 1e-12, name)
  end
  check.raises("all labels are ignored", eval.nll(logits, { x = x, y = i64 { -100, -100, -100 } }), {})
  check.raises("the labels go from -7 to 1", eval.nll(logits, { x = x, y = i64 { -7, 0, 1 } }), {})
  check.raises("ignore_index is a whole number", eval.nll, logits, kept, { ignore_index = "x" })
  local net = nn.mlp { 3, 3 }
  assert(eval.nll(net, kept).key ~= eval.nll(net, kept, { ignore_index = 0 }).key)
  assert(eval.nll(net, kept).key == eval.nll(net, kept, { ignore_index = -100 }).key)
end

-- ---- calibration: labels drawn from the predicted probabilities ----

local n = 20000
local z = 2 * tensor.randn({ n, 2 }, 1)
local p = z:softmax(-1)[{ {}, { 1, 1 } }]:reshape { n }
local labels = tensor.uniform({ n }, 2):ge(p):to "i64"
local calibrated = eval.ece(logits, { x = z, y = labels })({})
assert(calibrated < 0.02, "a calibrated predictor: " .. calibrated)
local overconfident = eval.ece(logits, { x = 4 * z, y = labels })({})
assert(overconfident > 0.1, "four times too sure: " .. overconfident)

-- ---- batch norms ----

local net = nn.sequential { nn.linear(3, 4), nn.batch_norm(4), "relu", nn.linear(4, 2) }
local theta = net:init { seed = 1 }
local data = { x = 2 * tensor.randn({ 60, 3 }, 3) + 1 }
local reset = eval.bn_reset(net, theta, data, { batch = 20, statistics = "batches" })
local h = data.x:matmul(theta["0.weight"]:t()) + theta["0.bias"]
local mean, var = 0, 0
for k = 1, 3 do
  local part = h[{ { 20 * k - 19, 20 * k } }]
  mean, var = mean + part:mean(1) / 3, var + part:var(1) / 3
end
check.near((reset["1.running_mean"] - mean):abs():max(), 0, 1e-5)
check.near((reset["1.running_var"] - var):abs():max(), 0, 1e-4)
assert(reset["0.weight"]:equal(theta["0.weight"]) and reset["1.weight"]:equal(theta["1.weight"]))
check.equal(table.concat(reset:names(), " "), table.concat(theta:names(), " "))
-- What was there before does not count, not even NaN.
local spoilt = {}
for _, name in ipairs(theta:names()) do spoilt[name] = theta:tensor(name) end
spoilt["1.running_mean"] = tensor.full({ 4 }, 0 / 0)
local cured = eval.bn_reset(net, spoilt, data, { batch = 20, statistics = "batches" })
assert(cured["1.running_mean"]:equal(reset["1.running_mean"]) and cured["1.running_var"]:equal(reset["1.running_var"]))
-- In f64 against the statistics of all rows: pooled ones of the first norm in any batch size, exact ones of every norm.
do
  local deep = nn.sequential { nn.linear(3, 4), nn.batch_norm(4), nn.linear(4, 5), nn.batch_norm(5), nn.linear(5, 2) }
  local start = deep:init { seed = 1 }:cast "f64":load()
  local x = 2 * tensor.randn({ 53, 3 }, 3, { dtype = "f64" }) + 1
  local function linear(t, at) return t:matmul(start[at .. ".weight"]:t()) + start[at .. ".bias"] end
  local first = linear(x, 0)
  local m1, v1 = first:mean(1), first:var(1)
  local second = linear((first - m1) / ((v1 * (52 / 53) + 1e-5) ^ 0.5) * start["1.weight"] + start["1.bias"], 2)
  local want = { ["1.running_mean"] = m1, ["1.running_var"] = v1, ["3.running_mean"] = second:mean(1),
    ["3.running_var"] = second:var(1) }
  for _, size in ipairs { 53, 26, 13, 4, 1 } do -- of 26 and 13 the last batch is one row
    local exact = eval.bn_reset(deep, start, { x = x }, { batch = size, statistics = "exact" })
    for name, t in pairs(want) do check.near((exact[name] - t):abs():max(), 0, 1e-14, "exact, " .. name) end
    local pooled = eval.bn_reset(deep, start, { x = x }, { batch = size })
    for name, t in pairs(want) do
      local off = (pooled[name] - t):abs():max()
      if name:find "^1" or size == 53 then check.near(off, 0, 1e-14, "pooled, " .. name) end
    end
  end
  -- Batches that are normalised by themselves: deeper norms see that, and PyTorch's mean of variances even the first.
  local pooled = eval.bn_reset(deep, start, { x = x }, { batch = 20 })
  local means = eval.bn_reset(deep, start, { x = x }, { batch = 20, statistics = "batches" })
  assert((pooled["3.running_var"] - want["3.running_var"]):abs():max() > 1e-3)
  assert((means["1.running_var"] - v1):abs():max() > 0.1)
  check.raises("statistics = \"mean\"", eval.bn_reset, deep, start, { x = x }, { statistics = "mean" })
  check.raises("running statistics need two", eval.bn_reset, deep, start, { x = x[{ { 1, 1 } }] })
  -- What is frozen keeps its statistics.
  local part = nn.sequential { nn.batch_norm(3), nn.linear(3, 3), nn.batch_norm(3) }
  part.children[1].net.frozen = true
  local theta0 = part:init { seed = 2 }
  for _, how in ipairs { "pooled", "batches", "exact" } do
    local after = eval.bn_reset(part, theta0, { x = x:to "f32" }, { batch = 20, statistics = how })
    assert(after["0.running_var"]:equal(theta0["0.running_var"]) and not after["2.running_var"]:equal(theta0["2.running_var"]))
  end
end
local plain = nn.mlp { 3, 4, 2 }
local m = plain:init {}
assert(eval.bn_reset(plain, m, data) == m, "without batch norms nothing happens")

-- ---- the cache ----

local file = model.open "examples/data/base.safetensors"
local other = model.open "examples/data/low.safetensors"
local calls = 0
local norm = cache(function(a)
  calls = calls + 1
  return a:norm()
end)
local value = norm(file)
check.equal(norm(model.open("examples/data/base.safetensors", { label = "again" })), value)
check.equal(calls, 1, "the same file under another name")
norm(other)
check.equal(calls, 2)
check.equal(norm(merge.linear { file, other }), norm(merge.linear { file, other }))
check.equal(calls, 3, "the same plan")
norm(merge.linear { file, other, weight = { 0.9, 0.1 } })
check.equal(calls, 4, "another weight")
local memory = file:load()
norm(memory)
norm(model.load "examples/data/base.safetensors")
check.equal(calls, 4, "the same contents in memory")
norm(2 * memory)
check.equal(calls, 5)
check.raises("called with one model", norm, 7)
check.raises("a text that changes when the function does", cache, function() end, "scores.jsonl")
check.raises("expected a function", cache, 7)

-- In a file, by network and data.
local digits = model.load "examples/data/digits.safetensors"
local images, ys = digits["test.images"], digits["test.labels"]
local set = { x = images, y = ys:to "i64" }
local mlp = nn.mlp { 64, 128, 64, 10 }
local path = os.tmpname()
local score = cache(eval.accuracy(mlp, set), path)
local first = score(file)
local function counted(f, key)
  local k = 0
  return cache(setmetatable({ key = key or f.key }, { __call = function(_, a) k = k + 1 return f(a) end }), path), function() return k end
end
local kept, count = counted(eval.accuracy(mlp, set))
check.equal(kept(file), first)
check.equal(count(), 0, "kept in the file")
local fewer = { x = images[{ { 1, 100 } }]:clone(), y = ys[{ { 1, 100 } }]:clone():to "i64" }
local of_fewer, count_fewer = counted(eval.accuracy(mlp, fewer))
of_fewer(file)
check.equal(count_fewer(), 1, "other data")
assert(eval.accuracy(mlp, set).key ~= eval.nll(mlp, set).key)
assert(eval.accuracy(mlp, set).key ~= eval.accuracy(nn.mlp { 64, 32, 10 }, set).key)
os.remove(path)

-- ---- the greedy soup, as it is written ----

do
  local low, high, twin = other, model.open "examples/data/high.safetensors", model.open "examples/data/twin.safetensors"
  local ms, d = { low, high, twin, file }, { val = set }
  local net = mlp

  local score, kept = cache(eval.accuracy(net, d.val)), {}
  table.sort(ms, function(x, y) return score(x) > score(y) end)
  for _, m in ipairs(ms) do
    local try = { table.unpack(kept) };  try[#try + 1] = m
    if #kept == 0 or score(merge.linear(try)) >= score(merge.linear(kept)) then kept = try end
  end

  assert(#kept >= 1 and kept[1] == ms[1])
  assert(score(merge.linear(kept)) >= score(ms[1]))
  assert(score(ms[1]) > 0.9, "the networks classify")
end
