-- SPDX-License-Identifier: Apache-2.0
-- Schedules: what value each tensor gets, by hand; that values follow names and never places in a
-- list; what is refused, with its message.
local check = require "check"

-- A model of one-element tensors, in this order of names.
local function ones(names)
  local list = {}
  for i, name in ipairs(names) do list[i] = { name, tensor { 1.0 } } end
  return model.new(list)
end

local function stack(n)
  local names = { "model.embed_tokens.weight" }
  for i = 0, n - 1 do names[#names + 1] = ("model.layers.%d.mlp.up_proj.weight"):format(i) end
  names[#names + 1] = "model.norm.weight"
  names[#names + 1] = "lm_head.weight"
  return ones(names)
end

local function values(schedule, m)
  local scaled, out = schedule * m, {}
  for _, name in ipairs(m:names()) do out[name] = scaled[name]:item() end
  return out
end

local function at(v, layer) return v[("model.layers.%d.mlp.up_proj.weight"):format(layer)] end

-- ---- by.depth: knots spread evenly over the layers, linear between them ----

do
  local m = stack(5)
  local v = values(by.depth { 0, 1 }, m)
  for d, want in ipairs { 0, 0.25, 0.5, 0.75, 1 } do check.equal(at(v, d - 1), want + 0.0, "layer " .. d - 1) end
  check.equal(v["model.embed_tokens.weight"], 0.0)
  check.equal(v["model.norm.weight"], 1.0)
  check.equal(v["lm_head.weight"], 1.0)

  v = values(by.depth { 0, 4, 2, embed = 7, final = 8, head = 9 }, m)
  for d, want in ipairs { 0, 2, 4, 3, 2 } do check.equal(at(v, d - 1), want + 0.0) end
  check.equal(v["model.embed_tokens.weight"], 7.0)
  check.equal(v["model.norm.weight"], 8.0)
  check.equal(v["lm_head.weight"], 9.0)

  v = values(by.depth { 1, head = 0, embed = 0 }, m) -- zero is a value; final goes with head
  check.equal(at(v, 4), 1.0)
  check.equal(v["model.embed_tokens.weight"] + v["model.norm.weight"] + v["lm_head.weight"], 0.0)

  -- published values of a four-knot ramp over 32 layers
  v = values(by.depth { 0, 0.3, 0.7, 1 }, stack(32))
  for layer, want in pairs { [0] = 0, [1] = 0.029032, [10] = 0.290323, [11] = 0.325806, [20] = 0.674194,
    [21] = 0.709677, [30] = 0.970968, [31] = 1 } do
    check.near(at(v, layer), want, 1e-6, "layer " .. layer)
  end
  -- one layer: the first knot; more knots than layers: those at the ends and between
  v = values(by.depth { 3, 5 }, stack(1))
  check.equal(at(v, 0), 3.0)
  check.equal(v["lm_head.weight"], 5.0)
  v = values(by.depth { 0, 10, 20, 30, 40 }, stack(2))
  check.equal(at(v, 0), 0.0)
  check.equal(at(v, 1), 40.0)
  v = values(by.depth { 0, 10, 20, 30 }, stack(3))
  check.equal(at(v, 1), 15.0)
  -- two knots over many layers: never outside them
  v = values(by.depth { 1, 3 }, stack(126))
  for layer = 0, 125 do check.near(at(v, layer), 1 + 2 * layer / 125, 1e-6) end

  -- one value a layer
  v = values(by.depth(tensor { 5, 6, 7 }), stack(3))
  for d = 0, 2 do check.equal(at(v, d), 5.0 + d) end
  check.equal(v["model.embed_tokens.weight"], 5.0)
  check.equal(v["lm_head.weight"], 7.0)
  check.raises("2 values, but the model has 3 layers", function() return by.depth(tensor { 1, 2 }) * stack(3) end)

  check.raises("unknown option 'emebd'; did you mean 'embed'?", by.depth, { 0, 1, emebd = 2 })
  check.raises("expected { v1, v2, … } or a tensor, got nil", by.depth)
  check.raises("expected { v1, v2, … } or a tensor, got number", by.depth, 5)
  check.raises("one value a layer has one dimension", function() return by.depth(tensor { { 1, 2 } }) * stack(2) end)
  check.raises("at least one knot", by.depth, {})
  check.raises("knot 2 is a string", by.depth, { 0, "x" })
  check.raises("embed is a string, not a number", by.depth, { 0, embed = "x" })
  local odd = ones { "model.layers.0.w", "model.layers.1.w", "strange" }
  check.raises("strange is in no layer (other); give other = a value", function() return by.depth { 0, 1 } * odd end)
  check.equal((by.depth { 0, 1, other = 5 } * odd).strange:item(), 5.0)
end

-- ---- by.layer: the number in the name, ranges inclusive, the first that holds ----

do
  local m = stack(4)
  local v = values(by.layer { { 1, 2, 5 }, { 2, 3, 6 }, other = 1 }, m)
  check.equal({ at(v, 0), at(v, 1), at(v, 2), at(v, 3) }, { 1.0, 5.0, 5.0, 6.0 })
  check.equal(v["lm_head.weight"], 1.0)
  v = values(by.layer { { 0, 3, 1 }, embed = 2, final = 3, head = 4 }, m)
  check.equal({ v["model.embed_tokens.weight"], v["model.norm.weight"], v["lm_head.weight"] }, { 2.0, 3.0, 4.0 })
  check.raises("no rule holds for model.layers.3", function() return by.layer { { 0, 2, 1 }, embed = 0, final = 0, head = 0 } * m end)
  check.raises("rule 1 is not {first, last, value}", by.layer, { { 0, 1 } })
  check.raises("rule 1 is not {first, last, value}", by.layer, { { 0, 1.5, 2 } })
  check.raises("unknown option 'finl'; did you mean 'final'?", by.layer, { { 0, 1, 2 }, finl = 2 })
  check.raises("got nil", by.layer)
end

-- ---- by.name: the first rule whose expression is found; a value may be another schedule ----

do
  local m = ones { "model.layers.0.self_attn.q.weight", "model.layers.0.mlp.w", "model.layers.1.self_attn.q.weight",
    "model.layers.1.mlp.w", "model.norm.weight" }
  local v = values(by.name { { [[\.self_attn\.]], by.depth { 0, 1 } }, { [[\.mlp\.]], by.layer { { 1, 1, 7 }, other = 3 } },
    { ".", 0.5 } }, m)
  check.equal(v["model.layers.0.self_attn.q.weight"], 0.0)
  check.equal(v["model.layers.1.self_attn.q.weight"], 1.0)
  check.equal(v["model.layers.0.mlp.w"], 3.0)
  check.equal(v["model.layers.1.mlp.w"], 7.0)
  check.equal(v["model.norm.weight"], 0.5)
  v = values(by.name { { "weight", by.name { { "norm", 1 }, { ".", by.name { { "layers.1", 2 }, { "", 3 } } } } }, { ".", 4 } }, m)
  check.equal(v["model.norm.weight"], 1.0)
  check.equal(v["model.layers.1.self_attn.q.weight"], 2.0)
  check.equal(v["model.layers.0.self_attn.q.weight"], 3.0)
  check.equal(v["model.layers.0.mlp.w"], 4.0)
  check.equal(values(by.name { { "norm", 0 }, { ".", 1 } }, m)["model.norm.weight"], 0.0)
  check.raises("by.name: unknown option 'default'", by.name, { { ".", 1 }, default = 0 })
  check.raises('no rule matches model.layers.0.mlp.w; end with a rule {".", value}',
    function() return by.name { { "attn", 1 } } * m end)
  check.raises("missing closing parenthesis", function() return by.name { { "(", 1 } } * m end)
  check.raises("expected { {pattern, value}, … }", by.name, {})
  check.raises("rule 1: expected a number or another by.…, got nil", by.name, { { "x" } })
  check.raises("rule 1 is not {pattern, value}", by.name, { { 1, 2 } })
  -- a pattern that explodes is an error, never a wait
  check.raises("(a+)+$", function() return by.name { { "(a+)+$", 1 }, { ".", 1 } } * ones { ("a"):rep(60) .. "!" } end)
end

-- ---- by.tensor ----

do
  local m = stack(2)
  local v = values(by.tensor(function(name, info)
    assert(name == info.name)
    return info.depth or by.name { { "norm", 8 }, { ".", 9 } }
  end), m)
  check.equal({ at(v, 0), at(v, 1), v["model.norm.weight"], v["lm_head.weight"] }, { 0.0, 1.0, 8.0, 9.0 })
  check.raises("expected a function", by.tensor, 3)
  check.raises("is a string, not a number", function() return by.tensor(function() return "x" end) * m end)
  check.raises("boom", function() return by.tensor(function() error "boom" end) * m end)
end

-- ---- in methods: values follow names ----

do
  -- operands in other orders than the first, and with tensors that policies drop
  local names = { "layers.0.w", "layers.1.w", "layers.2.w", "layers.3.w" }
  local function filled(order, value)
    local list = {}
    for i, k in ipairs(order) do list[i] = { names[k], tensor { value * 1.0 } } end
    return model.new(list)
  end
  local first, back = filled({ 1, 2, 3, 4 }, 1), filled({ 4, 2, 1, 3 }, 100)
  local ramp = by.depth { 0, 3 } -- depth d has value d
  local m = merge.linear { first, back, weight = { ramp, 1 }, normalize = false }
  for d = 0, 3 do check.equal(m[names[d + 1]]:item(), d + 100.0) end
  m = merge.linear { back, first, weight = { 1, ramp }, normalize = false } -- the first is in another order now
  for d = 0, 3 do check.equal(m[names[d + 1]]:item(), d + 100.0) end
  local some = filled({ 4, 2 }, 100)
  m = merge.linear { first, some, weight = { ramp, 1 }, normalize = false, missing = "drop" }
  check.equal(m:names(), { names[2], names[4] })
  check.equal(m[names[2]]:item(), 101.0)
  check.equal(m[names[4]]:item(), 103.0)
  m = merge.linear { some, first, weight = { ramp, 1 }, normalize = false, missing = "drop" }
  -- some knows two layers only: 1 and 3 are its ends
  check.equal(m[names[2]]:item(), 1.0)
  check.equal(m[names[4]]:item(), 301.0)
  m = merge.linear { first, some, weight = { ramp, by.name { { "3", 2 }, { ".", 1 } } }, normalize = false, missing = "zero" }
  check.equal(m[names[1]]:item(), 0.0)
  check.equal(m[names[3]]:item(), 2.0)
  check.equal(m[names[4]]:item(), 203.0)
  -- with a base: its tensors are meant
  m = merge.task_arithmetic { base = back, first, weight = ramp, lambda = 1 }
  for d = 0, 3 do check.equal(m[names[d + 1]]:item(), 100.0 + d * (1 - 100)) end
  check.raises("which lacks layers.0.w", merge.linear, { some, first, weight = ramp, missing = "zero" })

  -- numbers, lists and schedules, mixed
  m = merge.linear { first, back, weight = { 0.25, by.name { { "0", 1 }, { ".", 2 } } }, normalize = false }
  check.equal(m[names[1]]:item(), 100.25)
  check.equal(m[names[2]]:item(), 200.25)
  local ramped = merge.slerp { first, back, t = by.depth { 0, 1 } }
  check.equal(ramped[names[1]]:item(), 1.0)
  check.equal(ramped[names[4]]:item(), 100.0)
  check.raises("option 't' is one value for all models, got a list", merge.slerp, { first, back, t = { 0, 1 } })
  check.raises("density = 2 of memory is outside 0 to 1", merge.ties, { base = first, back, density = by.name { { ".", 2 } },
    trim = "tensor" })
  check.raises("density varies by tensor", merge.ties, { base = first, back, density = by.name { { ".", 0.5 } } })
  for _, o in ipairs { { "pcb", "density" }, { "pcb", "clamp" }, { "consensus_ties", "density" }, { "tall_masks", "density" } } do
    check.raises(("merge.%s: %s varies by tensor"):format(o[1], o[2]), merge[o[1]],
      { base = first, back, [o[2]] = by.name { { ".", 0.5 } } })
  end

  -- algebra: on either side, and as a divisor
  check.equal((first * ramp)[names[3]]:item(), 2.0)
  check.equal((by.name { { ".", 6 } } / (first * 3))[names[3]]:item(), 2.0)
  check.equal((first - ramp)[names[3]]:item(), -1.0)
  check.equal((ramp - first)[names[3]]:item(), 1.0)
  -- what looks like a schedule is none
  check.raises("got a table", function() return first * { origin = "by.depth", value_of = function() return 1 end } end)
  local s = by.depth { 0, 1 }
  check.equal(tostring(s):match "schedule", "schedule")
  s.origin = ("x"):rep(3) -- kept by the plan, not by the script
  local kept = first:with {} -- planned or not, the name of a value lives as long as the model
  local held = kept * s
  s = nil
  collectgarbage()
  check.equal(held[names[4]]:item(), 1.0)
end

-- what has no value for a tensor is told at the line that asked
do
  local m = model.new { { "a.weight", tensor.ones { 2, 2 } } }
  local ok, why = pcall(function()
    local out = merge.linear { m, m, weight = by.name { { "b", 1 } } }
    return out
  end)
  assert(not ok and tostring(why):find "test_by.lua:%d+: by.name: no rule matches a.weight", tostring(why))
end
