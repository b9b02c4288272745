-- SPDX-License-Identifier: Apache-2.0
-- Dual-space matching (MuDSC: Xu et al. 2024, arXiv:2403.01753): weights alone find maps under which weights are close
-- and features may not be; features alone the other way round. Here the objective is a blend of both,
--
--   F = f N <A, pi(B)> / (|A| |B|)  +  (1 - f) Σ r_j,k(j),
--
-- with r the similarity of features on data and N how many of them there are, so that either part is N for equal
-- networks. As in weight matching one unit after the other is assigned anew with the others held, until a sweep gains
-- nothing. The features' part does not depend on other units, so F never falls.
return function(define, check, core)
  local features = require "align.features"(core)
  local map = require "align.map"(core)
  local match = require "align.match"()
  local matcher = require "align.matcher"(core)
  local scores = require "align.scores"(core)
  local terms = require "align.terms"(core)
  local what = "align.mudsc"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local ways = { product = true, cosine = true }

  -- The squared norms of the places of a unit's scores, over all tensors that the unit lies in.
  local function norms_of(job, unit, which)
    local out = {}
    for _, term in ipairs(unit.terms) do
      local t = terms.unfold(term, job[which][term.name]):to "f64"
      local own = (t * t):sum(1)
      out[term.key] = out[term.key] and out[term.key] + own or own
    end
    return out
  end

  -- Scores of weights and of features, summed where they are over the same classes.
  local function joined(a, b)
    local list, by = {}, {}
    for _, one in ipairs(a) do
      local t = { classes = one.classes, sizes = one.sizes, places = one.places, score = one.score }
      by[table.concat(one.classes, ".")], list[#list + 1] = t, t
    end
    for _, one in ipairs(b) do
      local t = by[table.concat(one.classes, ".")]
      if t then t.score = t.score + one.score else list[#list + 1] = one end
    end
    return list
  end

  local function value_of(list, maps)
    local total = 0.0
    for _, t in ipairs(list) do total = total + terms.reached(t.score, t.places, maps):sum() end
    return total
  end

  -- The unit's scores of weights, times f, in the units of features.
  local function weight_scores(job, start, unit)
    local list = {}
    if job.f == 0 then return list end
    for i, s in ipairs(matcher.scores_of(job, start, unit)) do
      local score = s.score:to "f64" * (job.f * job.scale)
      if job.way == "cosine" then
        local key = table.concat(s.classes, ".")
        local size = job.norms_a[unit][key]:sqrt():unsqueeze(2) * job.norms_b[unit][key]:sqrt():unsqueeze(1)
        score = tensor.where(size:gt(0), s.score:to "f64" * job.f / size, 0)
      end
      list[i] = { classes = s.classes, sizes = s.sizes, places = s.places, score = score }
    end
    return list
  end

  -- One unit assigned anew; what is gained.
  local function step(job, start, unit)
    local own = weight_scores(job, start, unit)
    local list = joined(own, job.features[unit] or {})
    if #list == 0 then return 0 end
    local found = match.solve(job.layout, list, { flips = job.signs and map.may_flip or nil })
    for c, m in pairs(found) do m.under = job.layout.classes[c].under or {} end
    local new = matcher.with(start.maps, found)
    local gain
    if unit.twice and job.f > 0 then -- the score is only the slope there
      local before = terms.agreement(job.layout, job.a, job.b, start.maps, unit.tensors)
      local after = terms.agreement(job.layout, job.a, job.b, new, unit.tensors)
      local seen = job.features[unit] or {}
      gain = job.f * job.scale * (after - before) + value_of(seen, new) - value_of(seen, start.maps)
    else
      gain = value_of(list, new) - value_of(list, start.maps)
    end
    if gain <= 1e-9 * math.max(1, job.count) then return 0 end
    for c, m in pairs(found) do
      start.maps[c] = m
      start.version[c] = (start.version[c] or 0) + 1
    end
    return gain
  end

  local function objective(job, maps)
    local total = job.f * job.scale * terms.agreement(job.layout, job.a, job.b, maps, job.names)
    for _, unit in ipairs(job.units) do total = total + value_of(job.features[unit] or {}, maps) end
    return total
  end

  local function descend(job, k, o)
    local start = { maps = {}, version = {}, scores = {}, solved = {} }
    for c, class in pairs(job.layout.classes) do
      local m = k == 1 and o.start and o.start.maps[c]
      if k > 1 then m = map.random_class(job.layout, class, ((o.seed or 0) * 4099 + k) * 1000003 + 2 * c) end
      if m and not m.index then fail "the alignment to start from is soft" end
      start.maps[c] = { index = m and m.index or map.identity_index(job.layout, class), sign = m and m.sign,
        under = class.under or {} }
    end
    local trace, ended = { objective(job, start.maps) }, false
    for sweep = 1, o.sweeps or 100 do
      local gained = 0
      local order = tensor.randperm(#job.units, ((o.seed or 0) * 4099 + k) * 65537 + sweep):totable()
      for _, i in ipairs(order) do gained = gained + step(job, start, job.units[i]) end
      if gained <= 0 then break end
      trace[#trace + 1] = objective(job, start.maps)
      if o.log and o.log { start = k, sweep = sweep, objective = trace[#trace] } == false then
        ended = true
        break
      end
    end
    return { maps = start.maps, trace = trace, objective = objective(job, start.maps), ended = ended }
  end

  local function mudsc(net, a, b, o)
    o = o or {}
    check(what, o, { "f", "data", "weights", "measure", "site", "from", "batch", "examples", "eps", "signs", "seed",
      "restarts", "start", "sweeps", "pin", "free", "check", "log" })
    local f = o.f or 0.5
    if type(f) ~= "number" or not (f >= 0 and f <= 1) then fail("f is a number from 0 to 1, got %s", tostring(f)) end
    if not ways[o.weights or "product"] then
      fail("weights = %q; expected \"product\" or \"cosine\"", tostring(o.weights))
    end
    local measure = scores.measure_of(what, o)
    if o.start ~= nil and not map.is(o.start) then fail("start is an alignment, got %s", core.kind(o.start)) end
    for _, name in ipairs { "restarts", "sweeps" } do
      local v = o[name]
      if v ~= nil and (math.type(v) ~= "integer" or v < 1) then
        fail("%s is a whole number, at least 1, got %s", name, tostring(v))
      end
    end
    local plan = features.layout(what, net, a, o)
    local job = matcher.job(what, net, plan, a, b)
    job.f, job.way, job.features, job.norms_a, job.norms_b = f, o.weights or "product", {}, {}, {}
    job.signs = o.signs ~= false and o.measure ~= "absolute"
    local moments, left = scores.seen(what, net, plan, a, b, o)
    local seen = scores.terms(moments, measure)
    job.count = 0
    for _, unit in ipairs(job.units) do
      for _, t in ipairs(seen) do
        if unit.has[t.classes[1]] then
          job.features[unit] = job.features[unit] or {}
          job.count = job.count + t.score.shape[1]
          table.insert(job.features[unit], { classes = t.classes, sizes = t.sizes, places = t.places,
            score = (1 - f) * t.score })
        end
      end
      if job.way == "cosine" then
        job.norms_a[unit], job.norms_b[unit] = norms_of(job, unit, "a"), norms_of(job, unit, "b")
      end
    end
    local aa, bb = 0, 0
    for _, name in ipairs(job.names) do
      aa, bb = aa + job.a[name]:dot(job.a[name]), bb + job.b[name]:dot(job.b[name])
    end
    job.scale = aa * bb > 0 and math.max(job.count, 1) / math.sqrt(aa * bb) or 1
    local best
    for k = 1, o.restarts or 1 do
      local one = descend(job, k, o)
      if not best or one.objective > best.objective then best = one end
      if one.ended then break end
    end
    return map.finish(map.new { net = net, layout = plan, maps = best.maps, method = "mudsc",
      info = { objective = best.objective, trace = best.trace, f = f, left = left } }, a, b, o)
  end

  define(what, "align.mudsc(net, a, b, {data =, f = 0.5, weights = \"product\", measure = \"correlation\", site =, "
    .. "from =, batch =, examples =, eps =, signs =, seed = 0, restarts = 1, start =, sweeps = 100, pin =, free =, "
    .. "check =, log =}) -> alignment",
    "Matching in both spaces (MuDSC: Xu et al. 2024, arXiv:2403.01753): what align.weights and "
    .. "align.activations look for, blended: f times the similarity of weights and 1 - f times that of features on "
    .. "data. f = 1 is align.weights, f = 0 is align.activations; the paper tries 0.1 … 0.9 and keeps what is best "
    .. "on data. p.trace has the objective after each sweep, which never falls.\n"
    .. "  weights: how alike the weights of two features are: \"product\", their inner product over the product of "
    .. "the models' norms, so that the sum is what align.weights maximises; \"cosine\": each pair by its own "
    .. "norms, as in the paper, so that small features count as much as large ones (no objective of the whole "
    .. "then: a step is taken where it gains in its own group, at most `sweeps` times)\n"
    .. "  seed, restarts, start, sweeps, log: as in align.weights; measure, site, from, batch, examples, eps, signs: "
    .. "as in align.activations",
    "local net = nn.mlp { 4, 16, 2 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local p = align.mudsc(net, a, b, { data = { x = tensor.normal({ 100, 4 }, 3) }, f = 0.5 })\n"
    .. "print(p:check(net, b) < 1e-5, p.trace[1] < p.objective)\n-- > true\ttrue", mudsc)
end
