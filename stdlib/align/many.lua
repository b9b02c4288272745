-- SPDX-License-Identifier: Apache-2.0
-- Several networks brought together at once. Every model i gets one map P_i into a common frame, so the map from j to i
-- is P_i^-1 P_j and going round any cycle moves nothing. Two ways to find them, both raising the sum over all pairs of
-- <P_i(W_i), P_j(W_j)>:
--
--   merge_many  one model after the other is matched to the mean of the others (Ainsworth et al. 2022, algorithm 3)
--   c2m3        the maps of all models, relaxed (align.relaxed), by steps of Frank and Wolfe; then each is rounded
--               (Crisostomi et al. 2024, arXiv:2405.17897). Along a step the sum is a polynomial (for matrices a
--               quartic if all models move, a quadratic if one does), so its largest value is found exactly
return function(define, check, core)
  local layout_of = require "align.layout".of
  local map = require "align.map"(core)
  local matcher = require "align.matcher"(core)
  local relaxed = require "align.relaxed"(core)
  local told = require "nn.told"
  local options = { "method", "seed", "steps", "init", "joint", "groups", "data", "pin", "free", "check", "log" }
  local what = "align.many"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local function summed(list, but)
    local out = {}
    for i, values in ipairs(list) do
      for name, t in pairs(i ~= but and values or {}) do out[name] = out[name] and out[name] + t or t end
    end
    return out
  end

  -- Σ over pairs of <M_i, M_j>, from the tensors moved.
  local function agreement(moved)
    local all, sum = summed(moved), 0
    for name, t in pairs(all) do
      sum = sum + t:dot(t)
      for _, values in ipairs(moved) do sum = sum - values[name]:dot(values[name]) end
    end
    return sum / 2
  end

  local function hard_moved(job, maps)
    local out, memo = {}, {}
    for _, name in ipairs(job.names) do
      out[name] = map.move(job.b[name], job.layout.tensors[name].axes, maps, memo)
    end
    return out
  end

  local function identity(job)
    local maps = {}
    for c in pairs(job.moving) do
      local class = job.layout.classes[c]
      maps[c] = { index = map.identity_index(job.layout, class), under = class.under or {} }
    end
    return maps
  end

  -- ---- one after the other ----

  local function merge_many(jobs, o)
    local maps, moved = {}, {}
    for i, job in ipairs(jobs) do
      maps[i] = o.maps and o.maps[i] or identity(job)
      moved[i] = hard_moved(job, maps[i])
    end
    local value = agreement(moved)
    local trace = { value }
    for sweep = 1, o.steps do
      local gained = 0
      for _, i in ipairs(tensor.randperm(#jobs, o.seed * 65537 + sweep):totable()) do
        local job = jobs[i]
        local target = summed(moved, i)
        for name, t in pairs(target) do target[name] = t / (#jobs - 1) end
        local own = matcher.onto(job, target)
        local one = matcher.run(own, { seed = o.seed * 4099 + sweep * #jobs + i, start = maps[i] })
        local gain = (#jobs - 1) * (one.objective - one.trace[1])
        if gain > 1e-9 * math.abs(value) then
          maps[i], moved[i], gained = one.maps, hard_moved(job, one.maps), gained + gain
        end
      end
      if gained == 0 then break end
      value = agreement(moved)
      trace[#trace + 1] = value
      if o.log and o.log { step = sweep, objective = value } == false then break end
    end
    return maps, value, trace
  end

  -- ---- all at once ----

  -- Nearly the mean of the group: every entry 1 / n, with a hundredth of noise, rows and columns summing to one.
  local function uniform(unit, seed)
    local x = {}
    for k, term in ipairs(unit.terms) do
      if not x[term.key] then
        local m = 1 + 0.01 * tensor.rand({ term.n, term.n }, seed + k)
        for _ = 1, 20 do
          m = m / m:sum(2, true)
          m = m / m:sum(1, true)
        end
        x[term.key] = m
      end
    end
    return x
  end

  local function by_tensor(job)
    local list, degree = {}, 1
    for _, unit in ipairs(job.units) do
      for _, term in ipairs(unit.terms) do
        list[term.name] = list[term.name] or {}
        table.insert(list[term.name], term)
        degree = math.max(degree, #list[term.name])
      end
    end
    return list, degree
  end

  local function c2m3(jobs, o)
    local lists, degree = {}, 1
    local x, starts = {}, {}
    for i, job in ipairs(jobs) do
      local d
      lists[i], d = by_tensor(job)
      degree = math.max(degree, d)
      x[i], starts[i] = {}, { maps = o.maps and o.maps[i] or identity(job), prices = {} }
      for u, unit in ipairs(job.units) do
        if o.init == "uniform" then
          for key, m in pairs(uniform(unit, ((o.seed * 4099 + i) * 4099 + u) * 65537)) do x[i][key] = m end
        else
          relaxed.matrices(unit, starts[i].maps, x[i])
        end
      end
    end
    local function moved_by(i, y)
      local out = {}
      for _, name in ipairs(jobs[i].names) do out[name] = relaxed.moved(lists[i][name], jobs[i].b[name], y) end
      return out
    end
    -- Where the sum rises fastest from where all are, for the models of a list.
    local moved = {}
    local function targets(which)
      local all, y = summed(moved), {}
      for _, i in ipairs(which) do
        local rest, job = {}, jobs[i]
        for name, t in pairs(all) do rest[name] = t - moved[i][name] end
        y[i] = {}
        for _, unit in ipairs(job.units) do
          local scores = relaxed.scores(unit, function(term)
            return relaxed.slope(lists[i][term.name], term, rest[term.name], job.b[term.name], x[i])
          end)
          relaxed.matrices(unit, matcher.solve(job, unit, scores, starts[i]), y[i])
        end
      end
      return y
    end
    for i in ipairs(jobs) do moved[i] = moved_by(i, x[i]) end
    local value = agreement(moved)
    -- The best step for the models of a list, all by the same share of the way.
    local function advance(which)
      local y, values, d = targets(which), { value }, #which > 1 and 2 * degree or degree
      for k = 1, d do
        local there = { table.unpack(moved) }
        for _, i in ipairs(which) do there[i] = moved_by(i, relaxed.between(x[i], y[i], k / d)) end
        values[k + 1] = agreement(there)
      end
      local t, best = relaxed.best_on_line(values)
      if t == 0 then return 0 end
      for _, i in ipairs(which) do
        x[i] = relaxed.between(x[i], y[i], t)
        moved[i] = moved_by(i, x[i])
      end
      value = best
      return t
    end
    local everyone, trace, stalls = {}, { value }, 0
    for i in ipairs(jobs) do everyone[i] = i end
    for step = 1, o.steps do
      local before, size = value, 0
      if o.joint then
        size = advance(everyone)
      else
        for _, i in ipairs(tensor.randperm(#jobs, o.seed * 65537 + step):totable()) do
          size = math.max(size, advance { i })
        end
      end
      trace[#trace + 1] = value
      local told_to_stop = o.log and o.log { step = step, objective = value, size = size } == false
      stalls = value - before > 1e-6 * math.abs(before) and 0 or stalls + 1
      if told_to_stop or size == 0 or stalls == 5 then break end
    end
    local maps, reached = {}, {}
    for i, job in ipairs(jobs) do
      maps[i] = {}
      for _, unit in ipairs(job.units) do
        for c, m in pairs(matcher.solve(job, unit, relaxed.scores(unit, x[i]), starts[i])) do maps[i][c] = m end
      end
      reached[i] = hard_moved(job, maps[i])
    end
    return maps, agreement(reached), trace
  end

  local ways = { c2m3 = c2m3, merge_many = merge_many }

  -- ---- the result ----

  local Many = { __name = "alignments" }
  local methods = {}
  Many.__index = methods

  function methods.pair(r, i, j) return r[i]:inverse() * r[j] end

  function methods.apply(r)
    local out = {}
    for i, p in ipairs(r) do out[i] = p:apply(r.models[i]) end
    return out
  end

  function methods.merge(r) return merge.linear(r:apply()) end

  function Many.__tostring(r)
    return ("%d alignments by %s: agreement %.6g, %.6g before"):format(#r, r.method, r.objective, r.before)
  end

  local function many(net, models, o)
    check(what, o, options)
    o = o or {}
    if type(models) ~= "table" or #models < 2 then fail("expected a list of at least two models") end
    local method, init = o.method or "c2m3", o.init or "uniform"
    if not ways[method] then fail('method is "c2m3" or "merge_many", got %s', tostring(method)) end
    if init ~= "uniform" and init ~= "identity" and init ~= "weights" then
      fail('init is "uniform", "identity" or "weights", got %s', tostring(init))
    end
    local layout = layout_of(net, { pin = o.pin, free = o.free, x = map.example(what, net, o.data) })
    local moving, jobs, list = map.chosen(what, layout, o.groups), {}, {}
    for i, m in ipairs(models) do
      local _, _, loaded = map.values(what, m)
      list[i] = loaded or m
      jobs[i] = matcher.job(what, net, layout, list[1], list[i], { moving = moving })
    end
    local first
    if init == "weights" then
      first = { identity(jobs[1]) }
      for i = 2, #jobs do first[i] = matcher.run(jobs[i], { seed = o.seed }).maps end
    end
    local maps, objective, trace = ways[method](jobs, { seed = o.seed or 0, log = o.log, init = init, maps = first,
      joint = o.joint, steps = o.steps or (method == "c2m3" and 200 or 100) })
    local still = {}
    for i, job in ipairs(jobs) do still[i] = hard_moved(job, {}) end
    local r = { models = list, method = method, objective = objective, before = agreement(still), trace = trace }
    for i = 1, #jobs do r[i] = map.new { net = net, layout = layout, maps = maps[i], method = method } end
    local mean = merge.linear(methods.apply(setmetatable(r, Many)))
    for i, p in ipairs(r) do map.finish(p, mean, list[i], o) end
    return r
  end

  local made = "local net = nn.mlp { 4, 8, 2 }\nlocal a = net:init { seed = 1 }\n"
    .. "local b, c = align.random(net, { seed = 2 }):apply(a), align.random(net, { seed = 3 }):apply(a)\n"
    .. "local r = align.many(net, { a, b, c })\n"

  define("align.many",
    "align.many(net, {a, b, c, …}, {method = \"c2m3\", init = \"uniform\", "
    .. "joint = false, steps =, seed = 0, groups =, pin =, free =, data =, check = true, log =}) -> alignments",
    "Several models brought into one frame: r[i]:apply(model i) are close to each other and each computes what it "
    .. "did. The maps are consistent: those between pairs (r:pair) compose to the identity around any cycle. By "
    .. "weights alone. r.objective is the sum over all pairs of inner products of the weights moved, r.before the "
    .. "same without, r.trace its course.\n"
    .. "  method: \"c2m3\": Frank-Wolfe over the relaxed maps of all models, with the exact best step (Crisostomi et "
    .. "al. 2024, arXiv:2405.17897); \"merge_many\": each model in turn is matched to the mean of the others, until "
    .. "nothing is gained (Ainsworth et al. 2022, arXiv:2209.04836)\n"
    .. "  init: of c2m3: \"uniform\" (nearly the mean of all permutations), \"identity\", or \"weights\" (each "
    .. "matched to the first model; also for merge_many, which else begins at the identity)\n"
    .. "  joint: c2m3 takes one step for all models, as in the paper, and not one for each in turn, which comes to an "
    .. "end in far fewer steps and at better maps\n"
    .. "  steps: at most so many (200; of merge_many 100 rounds)\n"
    .. "  seed, groups, pin, free, data, check: as in align.weights\n"
    .. "  log: a function of { step, objective } after each step; when it returns false the best so far is returned",
    made .. "print(r.objective > r.before, r:pair(1, 2):check(net, b) < 1e-4)\n-- > true\ttrue", many)
  define("alignments:apply", "r:apply() -> {m1, m2, …}", "The models that align.many was given, each moved.",
    made .. "print(#r:apply())\n-- > 3", methods.apply)
  define("alignments:merge", "r:merge() -> model", "The mean of the models moved: merge.linear(r:apply()).",
    made .. "print(#r:merge())\n-- > 4", methods.merge)
  define("alignments:pair", "r:pair(i, j) -> alignment", "The map from model j into the frame of model i.",
    made .. "print(((r:pair(1, 2) * r:pair(2, 3) * r:pair(3, 1)):apply(a) - a):norm())\n-- > 0.0", methods.pair)
  for name, f in pairs(methods) do methods[name] = told(f) end
end
