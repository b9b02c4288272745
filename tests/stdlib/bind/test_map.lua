-- SPDX-License-Identifier: Apache-2.0
-- merge.map and m:map: what user functions are given and may return, what the plan keeps of them, and
-- that errors keep their place in the script.
local check = require "check"
local folder <close> = require "folder"()

local data = "examples/data/"
local function digits(name) return model.open(data .. name .. ".safetensors") end
local base, a, b, c = digits "base", digits "low", digits "high", digits "twin"
local where = { input = { base = data .. "base.safetensors", low = data .. "low.safetensors",
  high = data .. "high.safetensors", twin = data .. "twin.safetensors" } }

local function gap(x, y) return (x:load() - y:load()):norm(math.huge) end

-- Saved, replayed and loaded again.
local count = 0
local function replayed(m)
  count = count + 1
  local path = folder("out" .. count .. ".safetensors")
  m:save(path)
  local same, report = model.replay(path, where)
  check.equal(same, true, report)
  return model.load(path)
end

-- ---- apply ----

do
  local calls, names = 0, {}
  local m = merge.map { base = base, a, b, apply = function(t, s, name)
    calls = calls + 1
    names[#names + 1] = name
    check.equal(#t, 2)
    check.equal(next(s), nil)
    check.equal(t.base.shape, base:info(name).shape)
    return t.base + 0.3 * (t[1] - t.base) + 0.2 * (t[2] - t.base)
  end }
  check.equal(calls, 6) -- once per tensor, when the method is applied, and never again
  check.equal(names, { "fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight", "fc3.bias", "fc3.weight" })
  check.equal(gap(replayed(m), base + 0.3 * (a - base) + 0.2 * (b - base)), 0.0)
  check.equal(calls, 6)
  check.equal(m:mass(), 1.0)
  check.equal(merge.map({ a - base, apply = function(t) return t[1] * 2 end }):mass(), 0.0)

  -- an operand, a number, a scalar, a bool, nothing of the operands
  check.equal(gap(replayed(merge.map { a, b, apply = function(t) return t[2] end }), b), 0.0)
  check.equal(replayed(merge.map { a, apply = function() return 0.5 end }):norm(math.huge), 0.5)
  check.equal(replayed(merge.map { a, apply = function() return 0.5 end }):norm(1), 0.5 * 17226)
  local means = replayed(merge.map { a, apply = function(t) return t[1]:mean() end })
  check.equal(means["fc1.weight"].shape, { 128, 64 })
  check.near(means["fc1.weight"][{ 5, 6 }], a["fc1.weight"]:mean():item(), 1e-7)
  check.equal(replayed(merge.map { a, apply = function(t) return t[1]:gt(-1e9) end }):norm(math.huge), 1.0)
  -- infinities among the numbers of the plan
  check.equal(gap(replayed(merge.map { a, apply = function(t) return t[1]:clamp(0, math.huge) end }),
    a:map(function(t) return t:relu() end)), 0.0)
  check.equal(replayed(merge.map { a, apply = function(t) return t[1] * -0.0 - 0.0 end }):norm(), 0.0)
  -- another shape
  local turned = merge.map { a, apply = function(t) return #t[1].shape == 2 and t[1]:transpose(1, 2) or t[1] end }
  check.equal(turned:info("fc1.weight").shape, { 64, 128 })
  check.equal(replayed(turned)["fc1.weight"].shape, { 64, 128 })
  check.equal(gap(replayed(turned):map(function(t) return #t.shape == 2 and t:transpose(1, 2) or t end), a), 0.0)
  check.equal(replayed(a:map(function(t) return t:reshape(-1) end)):info("fc1.weight").shape, { 8192 })
  -- the output keeps the dtype of the first operand
  check.equal(a:cast("bf16"):map(function(t) return t * 2 end):dtype(), "bf16")
  check.equal(a:map(function(t) return t:to "f64" end):dtype(), "f32")

  -- upvalues, coroutines, other tensors; stages in the middle
  local k = 0
  local counted = a:map(function(t) k = k + 1 return t * k end)
  check.equal(k, 6)
  check.equal(gap(replayed(counted):only "fc3.bias", (5 * a):only "fc3.bias"), 0.0)
  local double = coroutine.wrap(function(t) while true do t = coroutine.yield(t * 2) end end)
  check.equal(gap(replayed(a:map(double)), 2 * a), 0.0)
  check.raises("yield across", coroutine.wrap(function() return a:map(function(t) coroutine.yield(1) return t end) end))
  local staged = merge.map { merge.ties { base = base, a, b }:stage(), c, apply = function(t) return (t[1] + t[2]) / 2 end }
  check.equal(gap(replayed(staged), 0.5 * merge.ties { base = base, a, b } + 0.5 * c) < 1e-6, true)
  local after = merge.map { a, b, apply = function(t) return t[1]:maximum(t[2]) end }:stage() * 0.5 + 0.5 * c
  check.equal(gap(replayed(after), 0.5 * merge.map { a, b, apply = function(t) return t[1]:maximum(t[2]) end } + 0.5 * c), 0.0)
  check.equal(gap(replayed(merge.linear { a:map(function(t) return t:abs() end), b, weight = by.depth { 0.2, 0.8 } }),
    merge.linear { a:map(function(t) return t:abs() end), b, weight = by.depth { 0.2, 0.8 } }), 0.0)
end

-- ---- stats ----

do
  local asked = 0
  local m = merge.map { base = base, a, b,
    stats = function(t, name)
      asked = asked + 1
      check.equal(type(name), "string")
      local d1, d2 = t[1] - t.base, t[2] - t.base
      return { n1 = (d1 * d1):sum(), n2 = (d2 * d2):sum(), dot = (d1 * d2):sum(), rows = t[1]:reshape(-1):abs():max(), one = 1,
        [7] = d1:reshape(-1):mean() }
    end,
    apply = function(t, s, name)
      check.equal(s.one, 1.0)
      check.near(s.n1, (a - base):only("^" .. name .. "$"):norm() ^ 2, 1e-4)
      check.near(s[7], (a - base)[name]:mean():item(), 1e-7)
      local cos = s.dot / math.sqrt(s.n1 * s.n2)
      if cos < 0 then return t.base end
      return t.base + cos * (t[1] - t.base)
    end }
  check.equal(asked, 6)
  local out = replayed(m)
  for name in pairs(a) do
    local d1, d2 = (a - base):only("^" .. name .. "$"), (b - base):only("^" .. name .. "$")
    local cos = math.max(0, d1:cosine(d2))
    check.near((out[name] - (base[name] + cos * (a[name] - base[name])):load()):abs():max(), 0, 1e-6, name)
  end
  -- statistics that are tensors; tensors in memory as constants: then the plan cannot be replayed
  local rows = merge.map { a, stats = function(t) return { v = t[1]:abs():max(1) } end,
    apply = function(t, s) return t[1] / s.v end }
  check.near(rows:norm(math.huge), 1, 1e-6)
  rows:save(folder "rows.safetensors")
  check.raises("", model.replay, folder "rows.safetensors", where)
  check.equal(rows:plan().replayable, false)
  check.equal(m:plan().replayable, true)
  local held = tensor.ones { 10 }
  local with = a:only("fc3.bias"):map(function(t) return t + held end)
  check.equal((with["fc3.bias"]:load() - a["fc3.bias"]:load() - 1):abs():max() < 1e-6, true)
  check.equal(with:plan().replayable, false)
  local unused = a:map(function(t) local _ = held + 1 return t * 2 end)
  check.equal(unused:plan().replayable, true) -- what no result needs is no part of the plan
  replayed(unused)
end

-- ---- integers, policies, order, templates ----

do
  local function counted(n, order)
    local all = { w = { "w", tensor { n, n } }, v = { "v", tensor { n } }, n = { "n", tensor({ 3 }, { dtype = "i64" }) } }
    local list = {}
    for i, k in ipairs(order) do list[i] = all[k] end
    return model.new(list)
  end
  local p, q = counted(1, { "w", "v", "n" }), counted(10, { "n", "v", "w" })
  local m = merge.map { p, q, apply = function(t, _, name) assert(name ~= "n") return t[1] + t[2] end }
  check.equal(m:names(), { "w", "v", "n" })
  check.tensor(m.w, { 11.0, 11.0 })
  check.tensor(m.n, { 3 })
  m = merge.map { q, p, apply = function(t, _, name) return name == "w" and t[1] - t[2] or t[2] end }
  check.equal(m:names(), { "n", "v", "w" })
  check.tensor(m.w, { 9.0, 9.0 })
  check.tensor(m.v, { 1.0 })
  local less = q:only "w"
  check.raises("do not hold the same tensors", merge.map, { p, less, apply = function(t) return t[1] end })
  m = merge.map { p, less, missing = "drop", apply = function(t) return t[1] + t[2] end }
  check.equal(m:names(), { "w" })
  m = merge.map { p, less, missing = "base", apply = function(t) return t[1] + t[2] end }
  check.tensor(m.v, { 2.0 })
  m = merge.map { less, p, missing = "zero", apply = function(t) return t[1] + 2 * t[2] end }
  check.tensor(m.w, { 12.0, 12.0 })
  check.tensor(m.v, { 2.0 })
  check.tensor(m.n, { 3 })

  -- one expression for all tensors of a shape, or one for each; the plan is the same in any order
  a:save(folder "ordered.safetensors")
  local function plan(model_, f) return model_:map(f):plan().json end
  local shuffled = model.open(data .. "low.safetensors", { label = "m" })
  local again = model.open(folder "ordered.safetensors", { label = "m" })
  for _, f in ipairs { function(t) return t * 2 end, function(t, n) return t * #n end,
    function(t, n) return n:find "weight" and t or t:abs() end } do
    check.equal(plan(shuffled, f), plan(again, f))
  end
  local shared = a:map(function(t) return 2 * t end):plan().json
  check.equal(select(2, shared:gsub('"operation":"mul"', "")), 6) -- six shapes
  local twins = model.new { { "a", tensor { 1, 2 } }, { "b", tensor { 3, 4 } } }
  twins:save(folder "twins.safetensors")
  shared = model.open(folder "twins.safetensors"):map(function(t) return 2 * t end):plan().json
  check.equal(select(2, shared:gsub('"operation":"mul"', "")), 1)
end

-- ---- errors ----

do
  local function map(f, s) return merge.map { base = base, a, b, apply = f, stats = s } end
  local function one(t) return t[1] end
  check.raises("apply = function(t, s, name) is missing", merge.map, { a, b })
  check.raises("expected one table, { a, b, apply = … }, got model", merge.map, a, b)
  check.raises("unknown option 'appyl'; did you mean 'apply'?", merge.map, { a, appyl = one })
  check.raises("entry 2 is a number, not a model", merge.map, { a, 3, apply = one })
  check.raises("base is a string, not a model", merge.map, { a, base = "x", apply = one })
  check.raises("expected 1 to 64 models, got 0", merge.map, { apply = one })
  check.raises("stats is a number, not a function", merge.map, { a, apply = one, stats = 3 })
  check.raises("apply returned a nil for fc1.bias", map, function() end)
  check.raises("apply returned a string for fc1.bias", map, function() return "x" end)
  check.raises("stats returned a number for fc1.bias", map, one, function() return 3 end)
  check.raises("stats returned a string among its values for fc1.bias", map, one, function() return { "x" } end)
  check.raises("a value inside a recorded function is not known yet", map, function(t) return t[1]:sum():item() end)
  check.raises("expected a tensor or a number, got nil", map, function(t) return t[1] + t[3] end)
  local ok, err = pcall(map, function(t, _, name)
    if name == "fc2.bias" then error "mine" end
    return t[1]
  end)
  check.equal(ok, false)
  assert(tostring(err):find "test_map.lua:%d+: mine$", tostring(err))
  ok, err = pcall(map, function(t) return t[1]:matmul(t[2]):nothing() end)
  check.equal(ok, false)
  assert(tostring(err):find "^[^:]*test_map.lua:%d+: ", tostring(err))
  ok, err = pcall(map, function() error({ code = 7 }) end)
  check.equal({ ok, err.code }, { false, 7 })
  -- stats needs the data: not while only planning
  check.raises("stats of merge.map", model.plans, function() map(one, function(t) return { t[1]:sum() } end):save "x" end)
  check.equal(#model.plans(function() map(one):save "x" end), 1)
end
