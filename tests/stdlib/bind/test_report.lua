-- SPDX-License-Identifier: Apache-2.0
-- merge.report: its numbers against the same computed from tensors in memory, closed forms (t of model
-- stock, a result that is one of the models, nothing kept), layers and the whole as sums, JSON.
local check = require "check"
local folder <close> = require "folder"()

local data = "examples/data/"
local function digits(name) return model.open(data .. name .. ".safetensors") end
local base, a, b, c = digits "base", digits "low", digits "high", digits "twin"
local function near(got, want, what) check.near(got, want, 1e-9 * math.max(1, math.abs(want)), what) end

local function by_name(report)
  local of = {}
  for _, t in ipairs(report.tensors) do of[t.name] = t end
  return of
end

-- What one tensor's record should say, from flat tables of numbers.
local function expect(t, name, m, operands, from, dtype)
  local function list(x, d)
    x = x[name]
    return (d and x:to(d) or x):to("f64"):reshape(-1):load():totable()
  end
  local o, r, still, unrounded = list(from), list(m, dtype), list(from, dtype), list(m)
  local x, n = {}, #operands
  for k = 1, n do x[k] = list(operands[k]) end
  local function dot(f, g)
    local s = 0
    for i = 1, #o do s = s + f(i) * g(i) end
    return s
  end
  local function off(k) return function(i) return x[k][i] - o[i] end end
  local function delta(i) return r[i] - o[i] end
  local function mean(i)
    local s = 0
    for k = 1, n do s = s + (x[k][i] - o[i]) / n end
    return s
  end
  near(t.change, math.sqrt(dot(delta, delta)), name)
  near(t.norm, math.sqrt(dot(function(i) return r[i] end, function(i) return r[i] end)), name)
  local function spread(v)
    local sum, squared = 0, 0
    for i = 1, #v do sum, squared = sum + v[i], squared + v[i] ^ 2 end
    return math.sqrt(squared / #v - (sum / #v) ^ 2)
  end
  local spreads = 0
  for k = 1, n do spreads = spreads + spread(x[k]) / n end
  near(t.spread, spread(r) / spreads, name)
  near(t.t, dot(delta, mean) / dot(mean, mean), name)
  local squares, any, conflict, changed, left, lost, rounded = 0, 0, 0, 0, 0, 0, 0
  for k = 1, n do squares = squares + dot(off(k), off(k)) / n end
  near(t.energy, dot(delta, delta) / squares, name)
  for i = 1, #o do
    local up, down = false, false
    for k = 1, n do
      up, down = up or x[k][i] > o[i], down or x[k][i] < o[i]
    end
    any, conflict = any + ((up or down) and 1 or 0), conflict + ((up and down) and 1 or 0)
    changed = changed + (r[i] ~= still[i] and 1 or 0)
    rounded = rounded + (r[i] ~= unrounded[i] and 1 or 0)
    left = left + (unrounded[i] ~= o[i] and 1 or 0)
    lost = lost + (unrounded[i] ~= o[i] and r[i] == still[i] and 1 or 0)
  end
  near(t.conflict, any == 0 and 0 or conflict / any, name)
  near(t.changed, changed / #o, name)
  near(t.rounding.changed, rounded / #o, name)
  near(t.rounding.lost, left == 0 and 0 or lost / left, name)
  for k = 1, n do
    local moved, agree = 0, 0
    for i = 1, #o do
      local d, e = off(k)(i), r[i] - still[i]
      moved, agree = moved + (d ~= 0 and 1 or 0), agree + (d * e > 0 and 1 or 0)
    end
    near(t.models[k].norm, math.sqrt(dot(off(k), off(k))), name)
    near(t.models[k].share, dot(off(k), delta) / dot(off(k), off(k)), name)
    near(t.models[k].cosine, dot(off(k), delta) / (t.models[k].norm * t.change), name)
    near(t.models[k].kept, agree / moved, name)
    for l = 1, n do
      near(t.cosines[k][l], dot(off(k), off(l)) / (t.models[k].norm * math.sqrt(dot(off(l), off(l)))), name)
    end
  end
end

for _, dtype in ipairs { "f32", "bf16" } do
  local m = merge.ties { base = base, a, b, c, density = 0.3, trim = "tensor" }
  local r = merge.report { m, dtype = dtype }
  check.equal({ r.whole.base, r.whole.models[1].model, r.whole.models[3].model }, { "base", "low", "twin" })
  local of = by_name(r)
  for _, name in ipairs { "fc1.bias", "fc2.weight", "fc3.weight" } do
    expect(of[name], name, m, { a, b, c }, base, dtype)
  end
  -- a saved model says the same as the plan run again, also without running it
  m:save(folder(dtype .. ".safetensors"), { dtype = dtype })
  local stored = model.open(folder(dtype .. ".safetensors"))
  check.equal(merge.report({ m, dtype = dtype, of = stored }):json(), r:json())
  local plain = merge.report { m, of = stored, rounding = false }
  check.equal(plain.whole.rounding, nil)
  check.equal(plain.whole.conflict, r.whole.conflict)
  local other = merge.report { m, of = stored:slice("fc3.weight", 1, 5):only "fc[23].w" } -- another shape, other names
  check.equal({ #other.tensors, #other.layers, other.tensors[4].name, other.tensors[4].compared }, { 6, 1, "fc2.weight", nil })
  check.equal(other.tensors[4].t, by_name(plain)["fc2.weight"].t)
end

-- ---- closed forms ----

do -- model stock is a multiple of the mean offset, t = k cos / (1 + (k - 1) cos)
  local r = by_name(merge.report { merge.model_stock { base = base, a, b } })
  for name, t in pairs(r) do
    local cos = t.cosines[1][2]
    check.near(t.t, 2 * cos / (1 + cos), 1e-5 * math.max(1, math.abs(t.t)), name)
  end
end
do -- whole sums: the sum of two offsets holds each by its projection, and counts the shared part twice
  local w = merge.report({ base + 1.0 * (a - base) + 1.0 * (b - base) }).whole
  check.near(w.t, 2, 1e-6)
  check.near(w.models[1].share, 1 + w.cosines[1][2] * w.models[2].norm / w.models[1].norm, 1e-6)
  check.equal(w.base, "base") -- what the algebra subtracts
  near(w.norm, (base + 1.0 * (a - base) + 1.0 * (b - base)):norm())
  local twice = merge.report({ merge.task_arithmetic { base = base, a, 1.0 * a } }).whole
  check.near(twice.models[1].share, 2, 1e-6)
  check.equal(twice.conflict, 0.0)
end
do -- one model in, and it alone
  local r = merge.report { merge.linear { a, b, weight = { 1, 0 }, normalize = false } }
  check.equal({ r.whole.base or "none", r.whole.models[1].same, r.whole.models[2].same }, { "none", true, false })
  near(r.whole.models[1].cosine, 1)
  near(r.whole.ratio, a:norm() / ((a:norm() + b:norm()) / 2))
  local z = merge.report({ merge.task_arithmetic { base = base, a, b, lambda = 0 } }).whole
  check.equal({ z.change, z.changed, z.energy, z.t, z.models[1].kept, z.models[1].share }, { 0.0, 0.0, 0.0, 0.0, 0.0, 0.0 })
end
do -- changes below half a step of bf16 are lost, all of them
  local x = model.new { { "w", tensor { 1.0, 2, 4 } } }
  x:save(folder "x.safetensors")
  x = model.open(folder "x.safetensors")
  local y = x * 1.001
  local w = merge.report({ merge.task_arithmetic { base = x, y, -1 * y + 2 * x }, dtype = "bf16" }).whole
  check.equal({ w.conflict, w.rounding.lost }, { 1.0, 0.0 }) -- the two cancel: nothing left the base
  w = merge.report({ x + (y - x), dtype = "bf16" })
  check.equal(w.whole, nil) -- of one input alone there is nothing to say
end
do
  local step = model.new { { "w", tensor { 1.001, 2.002, 4.1 } } }
  step:save(folder "step.safetensors")
  local x, y = model.open(folder "x.safetensors"), model.open(folder "step.safetensors")
  local w = merge.report({ merge.task_arithmetic { base = x, y, y, weight = 0.5 }, dtype = "bf16" }).whole
  near(w.rounding.lost, 2 / 3)
  near(w.changed, 1 / 3)
  check.equal(w.rounding.changed, 1.0)
end

-- ---- structure ----

do -- layers and the whole are sums; copies and parts of other models are told apart
  local m = model.join { merge.ties { base = base, a, b }:only "fc[12]", c:only "fc3" }
  local r = merge.report { m }
  check.equal({ #r.tensors, #r.layers, r.layers[1].name, r.layers[2].name }, { 6, 2, "layer 0", "layer 1" })
  local of = by_name(r)
  near(r.layers[1].change ^ 2, of["fc1.bias"].change ^ 2 + of["fc1.weight"].change ^ 2)
  near(r.whole.change ^ 2, r.layers[1].change ^ 2 + r.layers[2].change ^ 2)
  check.equal({ of["fc3.bias"].compared, of["fc3.bias"].models }, { false, nil })
  assert(tostring(r):find("2 more tensors: copied", 1, true))
  -- operands that are merges themselves
  local w = merge.report({ merge.ties { base = base, merge.slerp { a, b }, c } }).whole
  check.equal({ w.models[1].model, w.models[2].model }, { "slerp", "twin" })
end

-- ---- files and commands ----

do
  local m = merge.ties { base = base, a, b }
  m:save(folder "made", { report = folder "r.json" })
  local d = yaml.read(folder.text "r.json", "r.json") -- JSON is YAML
  local w = merge.report({ m }).whole
  check.near(d.whole.t, w.t, 1e-12)
  check.equal({ #d.tensors, #d.layers, d.whole.models[2].model, d.tensors[1].name }, { 6, 3, "high", "fc1.bias" })
  check.raises("report is a number, not true or the path", m.save, m, folder "out2", { report = 1 })
  check.raises("cannot open " .. folder "none/r.json", m.save, m, folder "out3", { report = folder "none/r.json" })
  local file = assert(io.open(folder "m.yml", "w"))
  file:write("merge_method: ties\nbase_model: tests/golden/merge/inputs/bf16/base\nmodels:\n"
    .. "  - {model: tests/golden/merge/inputs/bf16/prose, parameters: {weight: 1}}\n"
    .. "  - {model: tests/golden/merge/inputs/bf16/code, parameters: {weight: 1}}\ndtype: bfloat16\n")
  file:close()
  local code, out, err = folder.tarn("merge --quiet --report - " .. folder "m.yml" .. " " .. folder "yml")
  check.equal({ code, err }, { 0, "" })
  assert(out:find("ties of prose, code; offsets from base: 30 tensors\n", 1, true) and out:find("\n  layer 2 ", 1, true), out)
  code, out = folder.tarn("merge --quiet --report " .. folder "y.json" .. " --force " .. folder "m.yml" .. " " .. folder "yml")
  check.equal({ code, out }, { 0, "" })
  check.equal(yaml.read(folder.text "y.json", "y.json").whole.base, "base")
  check.raises("merge.report: unknown option 'off'; did you mean 'of'?", merge.report, { m, off = m })
  check.raises("of is a string, not the saved model", merge.report, { m, of = "x" })
end
