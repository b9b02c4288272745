-- SPDX-License-Identifier: Apache-2.0
-- Soups by a score, sweeps and Pareto fronts, adapters and parameters by CMA-ES: against what can be worked
-- out by hand.
local check = dofile "tests/stdlib/bind/check.lua"
local f64 = { dtype = "f64" }
local function point(...) return model.new { { "w", tensor({ ... }, f64) } } end
local function at(m) return m:load():tensor("w") end
local function near(...)
  local goal = tensor({ ... }, f64)
  return function(m) return -(at(m) - goal):norm() end
end

-- ---- greedy soup ----

do
  local m, info = search.greedy_soup(near(0.5), { point(0), point(1.1), point(0.4), point(3), point(0.7) })
  -- 0.4, 0.7, 0, 1.1, 3: 0.55 is better; with 0: 0.3667 no; with 1.1: 0.7333 no; with 3: no
  check.equal(info.order, { 3, 5, 1, 2, 4 })
  check.equal(info.kept, { 3, 5 })
  check.near(at(m):totable()[1], 0.55, 1e-15)
  check.near(info.score, -0.05, 1e-15)
  check.near(info.scores[4], -2.5, 1e-15)
  check.equal(#info.trials, 4)
  check.equal(info.trials[1].kept, true)
  check.near(info.trials[2].score, -(0.5 - 1.1 / 3), 1e-15)
  check.equal(at(m):equal(at(merge.linear { point(0.4), point(0.7) })), true, "it is the mean that merge.linear gives")
end

-- Never below the best model, and never falling on the way; with less, the other way round.
for seed = 1, 20 do
  local list = {}
  for k = 1, 6 do list[k] = model.new { { "w", tensor.normal({ 3 }, 10 * seed + k) } } end
  local goal = tensor.normal({ 3 }, 1000 + seed)
  local function distance(m) return (at(m) - goal):norm() end
  local m, info = search.greedy_soup(distance, list, { less = true })
  local now = math.min(table.unpack(info.scores))
  check.equal(info.scores[info.order[1]], now)
  for _, t in ipairs(info.trials) do
    check.equal(t.kept, t.score <= now)
    if t.kept then now = t.score end
  end
  check.equal(info.score, now)
  check.equal(distance(m), now)
end

-- Equal scores are kept, unless strict; NaN is the worst.
check.equal(search.greedy_soup(function() return 1 end, { point(1), point(3) }):load():tensor("w"):totable(), { 2.0 })
check.equal(select(2, search.greedy_soup(function() return 1 end, { point(1), point(3) }, { strict = true })).kept, { 1 })
check.equal(select(2, search.greedy_soup(function(m) return at(m):totable()[1] == 1 and 0 / 0 or 1 end,
  { point(1), point(3) }, { strict = true })).kept, { 2 })
check.raises("expected a list of models", search.greedy_soup, near(0), {})
check.raises("item 2 is no model", search.greedy_soup, near(0), { point(1), 2 })
check.raises("the score is a string", search.greedy_soup, function() return "x" end, { point(1) })
check.raises("unknown option 'les'", search.greedy_soup, near(0), { point(1) }, { les = true })

-- Models in files: the soup is a plan, and is what merge.linear makes of those that were kept.
do
  local list = {}
  for k, name in ipairs { "low", "high" } do list[k] = model.open("examples/data/" .. name .. ".safetensors") end
  local accuracy = eval.accuracy(nn.mlp { 64, 128, 64, 10 }, data.digits().test)
  local m, info = search.greedy_soup(accuracy, list)
  check.equal(info.kept, { 1, 2 })
  check.equal(m:tensor("fc1.weight").planned, true)
  check.equal(accuracy(m), info.score)
  assert(info.score > 0.9 and math.max(table.unpack(info.scores)) < 0.7)
end

-- ---- DiWA ----

do -- x is the unit matrix, so the rows of w are the logits of the examples
  local function says(list)
    local rows = {}
    for i, class in ipairs(list) do rows[i] = class == 0 and { 1, 0 } or { 0, 1 } end
    return model.new { { "w", tensor(rows) } }
  end
  local function net(theta, x)
    x = type(x) == "table" and x.x or x
    return x:matmul(type(theta) == "table" and theta.w or theta:tensor "w")
  end
  local d = { x = tensor.eye(5), y = tensor({ 0, 1, 0, 1, 0 }, { dtype = "i64" }) }
  local a, b, c = says { 0, 1, 0, 0, 1 }, says { 0, 1, 1, 0, 0 }, says { 0, 1, 0, 0, 1 } -- wrong: 4 5; 3 4; 4 5
  local _, info = search.diwa(net, d, { a, b, c }, { select = "all" })
  check.equal(info.kept, { 1, 2, 3 })
  check.near(info.scores[2], 0.6, 1e-15)
  check.tensor(info.disagreement, { { 0.0, 0.4, 0.0 }, { 0.4, 0.0, 0.4 }, { 0.0, 0.4, 0.0 } })
  check.tensor(info.ratio_error, { { 0.0, 2.0, 0.0 }, { 2.0, 0.0, 2.0 }, { 0.0, 2.0, 0.0 } })
  check.near(info.distance:totable()[1][2], math.sqrt(4), 1e-12) -- two rows differ, by {1, -1} each
  check.equal(info.distance:totable()[1][3], 0.0)
  local _, picked = search.diwa(net, d, { a, b, c })
  check.equal(picked.kept, { 1, 2 }) -- their mean has ties on 3 and 5, which go to class 0: only 4 is wrong
  check.near(picked.score, 0.8, 1e-15)
  local _, equal = search.diwa(net, d, { a, c })
  check.equal(equal.kept, { 1, 2 }) -- a mean that is no worse is kept
  check.raises("select is", search.diwa, net, d, { a }, { select = "some" })
end

-- ---- Pareto ----

do
  local rows = { { a = 1, b = 5 }, { a = 2, b = 4 }, { a = 2, b = 4 }, { a = 1, b = 4 }, { a = 3, b = 0 / 0 }, { a = 2, b = 3 } }
  check.equal(select(2, search.pareto(rows, { "a", "b" })), { 1, 2, 3, 5 })
  check.equal(select(2, search.pareto(rows, { "a" })), { 5 })
  check.equal(select(2, search.pareto({ { a = 1, t = 2 }, { a = 1, t = 1 }, { a = 2, t = 3 } }, { "a", "t" }, { less = { "t" } })), { 2, 3 })
  check.equal(select(2, search.pareto({ { t = 2 }, { t = 1 } }, { "t" }, { less = true })), { 2 })
  check.raises("b of row 1 is a nil", search.pareto, { { a = 1 } }, { "a", "b" })
  -- Random points: what is on the front is beaten by none, what is not by some point of the front.
  local points, u = {}, tensor.rand({ 60, 3 }, 5):totable()
  for i, p in ipairs(u) do points[i] = { x = p[1], y = p[2], z = p[3] } end
  local front, index = search.pareto(points, { "x", "y", "z" })
  local is_front = {}
  for _, i in ipairs(index) do is_front[i] = true end
  local function beats(p, q) return p.x >= q.x and p.y >= q.y and p.z >= q.z and (p.x > q.x or p.y > q.y or p.z > q.z) end
  for i, p in ipairs(points) do
    local beaten = false
    for _, q in ipairs(front) do beaten = beaten or beats(q, p) end
    check.equal(beaten, not is_front[i])
  end
end

-- ---- sweeps ----

do
  local base, tuned = point(0, 0), point(1, 2)
  local s = search.wise_ft(base, tuned, { id = near(1, 2), ood = near(0.22, 0.44) })
  check.equal(#s, 11)
  check.near(s[1].id, -math.sqrt(5), 1e-15)
  check.equal(s[11].id, 0.0)
  local row, m = s:best "ood"
  check.near(row.alpha, 0.2, 1e-12)
  check.near(at(m):totable()[2], 0.4, 1e-12)
  check.equal(at(s:model(s[1])):equal(at(base)) and at(s:model(s[11])):equal(at(tuned)), true, "ends are the sources")
  check.equal(s:best(function(r) return r.id + 0.5 * r.ood end).alpha, 1.0)
  check.equal(#s:front(), 9) -- from 0.2 to 1
  local lines = {}
  for l in tostring(s):gmatch "[^\n]+" do lines[#lines + 1] = l end
  check.equal(lines[1], "alpha       id      ood")
  check.equal(lines[4], "  0.2  -1.7889  -0.0447")
  check.equal(#lines, 12)
  check.equal(search.wise_ft(base, tuned, { d = function(m) return -near(1, 2)(m) end }, { less = true }):best("d").alpha, 1.0)
  local e = search.expo(base, tuned, near(1.5, 3))
  check.equal(#e, 6)
  check.equal(e:best().alpha, 0.5)
  check.tensor(at(e:model(e[6])), { 1.5, 3.0 })
  check.raises("no score of this table", s.best, s, "oood")
  check.raises("alphas is a list", search.wise_ft, base, tuned, near(0, 0), { alphas = 3 })
  check.raises("scores have names", search.wise_ft, base, tuned, { near(0, 0) })
  check.raises("expected two models", search.expo, base)
end

do -- rewards are distances to the corners of a triangle: every mixture is on the front of the three
  local list = { point(0, 0), point(1, 0), point(0, 1) }
  local rewards = { a = near(0, 0), b = near(1, 0), c = near(0, 1) }
  local s = search.rewarded_soups(list, rewards, { steps = 4 })
  check.equal(#s, 15)
  local seen = {}
  for _, r in ipairs(s) do
    check.near(r.w1 + r.w2 + r.w3, 1, 1e-15)
    seen[("%g %g %g"):format(r.w1, r.w2, r.w3)] = true
    check.near(r.b, -math.sqrt((1 - r.w2) ^ 2 + r.w3 ^ 2), 1e-12)
  end
  check.equal(seen["0.25 0.5 0.25"] and seen["1 0 0"] and seen["0 0 1"], true)
  check.equal(#s:front(), 15)
  check.equal(#s:front { "a", "b" }, 5, "of two rewards, the edge between them")
  check.equal(s:best("c").w3, 1.0)
  check.equal(#search.rewarded_soups(list, rewards, { weights = { { 1, 0, 0 }, { 2, -1, 0 } } }), 2)
  check.raises("weights[1] is not a list of 3", search.rewarded_soups, list, rewards, { weights = { { 1 } } })
end

-- ---- PAINT ----

do
  local base = point(0, 0)
  local kept, new = near(0, 0), function(m) return -(at(m) - tensor({ 1, 0 }, f64)):norm() ^ 2 end
  -- -a/2 - (1 - a)^2/2 is largest at a = 0.5
  local m, info = search.paint(base, { point(1, 0) }, { supported = kept, patching = new })
  check.near(info.alphas[1], 0.5, 1e-12)
  check.near(info.score, -0.375, 1e-12)
  check.near((at(m) - tensor({ 0.5, 0 }, f64)):norm(), 0, 1e-12)
  local function squares(x, y) return function(p) return -(at(p) - tensor({ x, y }, f64)):norm() ^ 2 end end
  -- Two patches on axes of their own, wanted at 0.8 and 0.3
  local scores = { supported = squares(0.8, 0.3), patching = squares(0.8, 0.3) }
  local _, common = search.paint(base, { point(1, 0), point(0, 1) }, scores)
  check.equal(common.alphas, { 0.55, 0.55 })
  local both, each = search.paint(base, { point(1, 0), point(0, 1) }, scores, { each = true, evals = 150, seed = 1 })
  check.near(each.alphas[1], 0.8, 0.02)
  check.near(each.alphas[2], 0.3, 0.02)
  check.near(-each.score, 0, 1e-3)
  check.near((at(both) - tensor({ 0.8, 0.3 }, f64)):norm(), 0, 0.03)
  -- The second patch is tuned from what the first one left.
  local seen
  local seq, steps = search.paint(base, { point(1, 0), function(now)
    seen = at(now):totable()[1]
    return now + point(0, 1) - point(0, 0)
  end }, { supported = squares(0, 0), patching = { squares(1, 0), squares(0.5, 1) } }, { mode = "sequential" })
  check.equal(seen, 0.5)
  check.equal(steps.alphas[1], 0.5)
  check.near(at(seq):totable()[1], 0.5, 1e-12)
  check.near(steps.alphas[2], 0.25, 1e-12) -- -b^2 against -(b^2 + (1 - b)^2) / 2
  check.raises("a score for each patch", search.paint, base, { base, base }, { supported = kept, patching = new }, { mode = "sequential" })
  check.raises("patch 1 is a function", search.paint, base, { function() end }, { supported = kept, patching = new })
  check.raises("scores.patching", search.paint, base, { base }, { supported = kept })
end

-- ---- LoRAHub ----

do
  local base = model.new { { "fc.weight", tensor.normal({ 6, 5 }, 1):to "f64" }, { "fc.bias", tensor.normal({ 6 }, 2):to "f64" } }
  local factors, A, B = {}, {}, {}
  for k = 1, 2 do
    A[k], B[k] = tensor.normal({ 2, 5 }, 10 + k):to "f64", tensor.normal({ 6, 2 }, 20 + k):to "f64"
    factors[k] = model.new { { "base_model.model.fc.lora_A.weight", A[k] }, { "base_model.model.fc.lora_B.weight", B[k] } }
  end
  local function weight(m) return m:load():tensor "fc.weight" end
  local plan = { { 0.7, -0.4 }, { 0.9, 0.5 } }
  for i, mode in ipairs { "product", "factors" } do
    local w = plan[i]
    local change = mode == "product" and w[1] * B[1]:matmul(A[1]) + w[2] * B[2]:matmul(A[2])
      or (w[1] * B[1] + w[2] * B[2]):matmul(w[1] * A[1] + w[2] * A[2])
    local goal = base:tensor "fc.weight" + change
    local m, info = search.lorahub(base, factors, function(m) return (weight(m) - goal):norm() end,
      { mode = mode, l1 = 0, evals = 400, seed = 3 })
    -- (-w, -w) has the same products as (w, w)
    local sign = mode == "factors" and info.weights[1] < 0 and -1 or 1
    check.near(sign * info.weights[1], w[1], 1e-3, mode)
    check.near(sign * info.weights[2], w[2], 1e-3, mode)
    check.near((weight(m) - goal):norm(), info.value, 1e-9)
    check.equal(m:load():tensor("fc.bias"):equal(base:tensor "fc.bias"), true)
  end
  -- What is added is the penalty; the base counts as a candidate.
  local m, info = search.lorahub(base, factors, function(x) return (weight(x) - base:tensor "fc.weight"):norm() end, { l1 = 1, evals = 30 })
  check.equal(info.weights, { 0.0, 0.0 })
  check.equal(info.value, info.start)
  check.near((weight(m) - base:tensor "fc.weight"):norm(), 0, 1e-12)
  local values, first = {}, nil
  local _, far = search.lorahub(base, factors, function(x)
    first = first or x
    values[#values + 1] = -(weight(x) - base:tensor "fc.weight"):norm()
    return values[#values]
  end, { l1 = 0.5, evals = 60, seed = 2 })
  local best = math.huge
  for _, v in ipairs(values) do best = math.min(best, v) end
  assert(far.value > best and far.value - best <= 0.5 * 1.5 + 1e-9)
  for _, v in ipairs(far.weights) do assert(math.abs(v) <= 1.5) end
  check.raises("is no vector", search.lorahub, base, { base }, near(0))
  check.raises("mode is", search.lorahub, base, factors, near(0), { mode = "sum" })
end

do -- adapters in a folder, as PEFT writes them: planned, with its scale
  local base = model.load "tests/golden/lora/base_llama"
  local lora = model.lora("tests/golden/lora/r4_qv", base)
  local name = lora:names()[1]
  local goal = (base + 0.25 * lora):load():tensor(name)
  for _, mode in ipairs { "factors", "product" } do
    local _, info = search.lorahub(base, { "tests/golden/lora/r4_qv" }, function(m)
      return (m:tensor(name) - goal):norm()
    end, { mode = mode, l1 = 0, evals = 60, seed = 1, popsize = 6 })
    check.near(math.abs(info.weights[1]), mode == "product" and 0.25 or 0.5, 0.02, mode) -- w A w B
  end
end

-- ---- evolution ----

do
  local base = point(0, 0, 0)
  local a, b = point(1, 0, 0.5), point(0, 2, 0.5)
  local goal = near(0.3, 1.2, 0.45)
  local function build(p) return base + p.scale * (p.weight[1] * a + p.weight[2] * b) + 0 * base end
  local space = { scale = { 0.5, 1, start = 1 }, weight = { { 0, 1 }, { 0, 1 } } }
  local m, info = search.evolve(build, function(x) return -goal(x) end, space, { evals = 400, seed = 1 })
  local p = info.parameters
  check.near(p.scale * p.weight[1], 0.3, 1e-3)
  check.near(p.scale * p.weight[2], 0.6, 1e-3)
  assert(p.scale >= 0.5 and p.scale <= 1)
  check.near(-goal(m), info.value, 1e-12)
  check.near(info.start, -goal(build { scale = 1, weight = { 0.5, 0.5 } }), 1e-12)
  local _, again = search.evolve(build, function(x) return -goal(x) end, space, { evals = 400, seed = 1 })
  check.equal(again.value, info.value)
  check.raises("scale is {low, high", search.evolve, build, goal, { scale = 1 })
  check.raises("start of scale is outside", search.evolve, build, goal, { scale = { 0, 1, start = 2 } })
end
