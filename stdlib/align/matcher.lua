-- SPDX-License-Identifier: Apache-2.0
-- The coordinate descent of align.weights, over any layout: see there. A job holds what does not change (the matrices
-- of all terms), a start holds maps, scores and what they were made from.
return function(core)
  local map = require "align.map"(core)
  local terms = require "align.terms"(core)
  local matcher = {}

  local KEEP = 1 << 30 -- bytes of matrices and of scores that are kept; beyond that they are made when they are needed

  local function fail(text, ...) error(text:format(...), 0) end

  -- ---- the job ----

  local function shape_text(t) return "[" .. table.concat(t.shape, ", ") .. "]" end

  -- The tensors of both in arithmetic dtypes, by name; names of those that count.
  local function opened(what, net, layout, a, b)
    local va, vb = map.values(what, a), map.values(what, b)
    local counts, out_a, out_b = map.counts(layout, net), {}, {}
    local names = {}
    for name in pairs(layout.tensors) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
      local about, t, u = layout.tensors[name], va[name], vb[name]
      if t and counts(name, t) then
        if not u then fail("%s: the second model has no %s", what, name) end
        for d = 1, math.max(#t.shape, #u.shape) do
          if t.shape[d] ~= u.shape[d] then
            fail("%s: %s has the shape %s in the first model and %s in the second", what, name, shape_text(t),
              shape_text(u))
          end
        end
        if #about.shape == #t.shape then
          local wide = t.dtype == "f64" or u.dtype == "f64"
          out_a[name], out_b[name] = t:to(wide and "f64" or "f32"), u:to(wide and "f64" or "f32")
        end
      end
    end
    return out_a, out_b
  end

  -- o: moving = function(class) -> bool, signs (false: permutations only).
  function matcher.job(what, net, layout, a, b, o)
    o = o or {}
    local job = { what = what, layout = layout, of_a = {}, of_b = {}, constant = {} }
    job.flips = o.signs == false and function() return false end or map.may_flip
    job.a, job.b = opened(what, net, layout, a, b)
    job.units, job.all = terms.units(layout, o.moving or function() return true end)
    job.moving = {}
    for _, unit in ipairs(job.units) do
      for c in pairs(unit.moving) do job.moving[c] = true end
    end
    job.names = terms.find(layout, job.units, function(name) return job.a[name] ~= nil end)
    local matrices, scores = 0, 0
    for _, unit in ipairs(job.units) do
      for _, term in ipairs(unit.terms) do
        local size = job.a[term.name].dtype == "f64" and 8 or 4
        term.constant = true
        for c in pairs(term.reads) do term.constant = term.constant and not job.moving[c] end
        matrices = matrices + 2 * term.rows * term.n * size
        scores = scores + term.n * term.n * size
      end
    end
    job.keep_matrices, job.keep_scores = matrices <= KEEP, scores <= KEEP
    job.bytes = (job.keep_matrices and matrices or 0) + (job.keep_scores and scores or 0)
    return job
  end

  -- The matrices [rows, places] of a term.
  local function matrices(job, term)
    local function of(kept, values)
      local m = kept[term] or terms.unfold(term, values[term.name])
      if job.keep_matrices then kept[term] = m end
      return m
    end
    return of(job.of_a, job.a), of(job.of_b, job.b)
  end

  -- The same job with other weights to be matched to.
  function matcher.onto(job, a)
    return setmetatable({ a = a, of_a = {}, constant = {} }, { __index = job })
  end

  -- ---- scores ----

  local function scaled(t, factor) return factor and t * factor:unsqueeze(2) or t end

  -- The rows of b that stand at the places `which` (nil: all).
  local function taken(b, rows, factor, which)
    local at, gain = rows, factor
    if which then
      at = rows and rows:index_select(1, which) or which
      gain = factor and factor:index_select(1, which)
    end
    return scaled(at and b:index_select(1, at) or b, gain)
  end

  -- Places where two lists of rows differ, as an index, and how many; nil: they are the same.
  local function changed(term, one, two)
    local n = term.rows
    local function list(rows) return rows or tensor.arange(n) + 1 end
    local differ = list(one.rows):ne(list(two.rows))
    if one.factor or two.factor then
      local ones = tensor.ones { n }
      differ = differ:logical_or((one.factor or ones):ne(two.factor or ones))
    end
    local count = math.tointeger(differ:to("i64"):sum())
    return count > 0 and (tensor.arange(n) + 1):masked_select(differ) or nil, count
  end

  local function version(start, term)
    local sum = 0
    for c in pairs(term.reads) do sum = sum + (start.version[c] or 0) end
    return sum
  end

  -- The score of a term at the maps of a start.
  local function score_of(job, start, term)
    local kept, now = start.scores[term], version(start, term)
    if kept and kept.version == now then return kept.score end
    local a, b = matrices(job, term)
    if term.constant then
      local rows, factor = terms.rows_from(term, start.maps)
      return a:t():matmul(taken(b, rows, factor))
    end
    local next_one = { version = now, drift = 0 }
    next_one.rows, next_one.factor = terms.rows_from(term, start.maps)
    local which, count
    if kept then which, count = changed(term, kept, next_one) end
    if kept and count == 0 then
      next_one.score, next_one.drift = kept.score, kept.drift
    elseif kept and 4 * count < 3 * term.rows and kept.drift + count < 8 * term.rows then
      local d = taken(b, next_one.rows, next_one.factor, which) - taken(b, kept.rows, kept.factor, which)
      next_one.score = kept.score:add_(a:index_select(1, which):t():matmul(d))
      next_one.drift = kept.drift + count
    else
      next_one.score = a:t():matmul(taken(b, next_one.rows, next_one.factor))
    end
    if job.keep_scores then start.scores[term] = next_one end
    return next_one.score
  end

  -- The scores of a unit by the classes that they are over: { { classes, sizes, places, score }, … }. What is constant
  -- is summed once.
  local function scores_of(job, start, unit)
    local list, by = {}, {}
    local function add(term, s)
      local one = by[term.key]
      if not one then
        one = { classes = term.classes, sizes = term.sizes, places = term.places, n = term.n }
        by[term.key], list[#list + 1] = one, one
      end
      if not one.score then
        one.score = s
      elseif one.mine then
        one.score:add_(s)
      else
        one.score, one.mine = one.score + s, true
      end
    end
    local fixed = job.constant[unit]
    for _, one in ipairs(fixed or {}) do add(one, one.score) end
    if not fixed then
      for _, term in ipairs(unit.terms) do
        if term.constant then add(term, score_of(job, start, term)) end
      end
      fixed = {}
      for i, one in ipairs(list) do
        fixed[i] = { key = table.concat(one.classes, "."), classes = one.classes, sizes = one.sizes,
          places = one.places, n = one.n, score = one.score }
        one.mine = false
      end
      if job.keep_scores then job.constant[unit] = fixed end
    end
    for _, term in ipairs(unit.terms) do
      if not term.constant then add(term, score_of(job, start, term)) end
    end
    return list
  end
  matcher.scores_of = scores_of

  -- ---- one step ----

  -- The best maps of a unit's moving classes by scores, with the prices of the assignment (see align.assignment).
  local function solve(job, unit, scores, start)
    if #unit.classes == 1 and #scores == 1 then
      local class, s = job.layout.classes[unit.classes[1]], scores[1].score
      local flips = job.flips(class)
      local index, _, prices = core.assign(flips and s:abs() or s, true, start.prices[unit])
      start.prices[unit] = prices
      local m = { index = index:reshape { 1, class.size }, under = {} }
      if flips then
        local at = s:gather(2, index:reshape { class.size, 1 }):reshape { 1, class.size }
        m.sign = tensor.where(at:lt(0), -1, 1):to "f32"
      end
      return { [class.id] = m }
    end
    local fixed = {}
    for _, c in ipairs(unit.classes) do
      if not unit.moving[c] then
        fixed[c] = start.maps[c] or { index = map.identity_index(job.layout, job.layout.classes[c]) }
      end
    end
    job.match = job.match or require "align.match"(core, align)
    local found = job.match.solve(job.layout, scores, { flips = job.flips, fixed = fixed })
    local maps = {}
    for c, m in pairs(found) do
      if unit.moving[c] then
        maps[c] = { index = m.index, sign = m.sign, under = job.layout.classes[c].under or {} }
      end
    end
    return maps
  end
  matcher.solve = solve

  -- All of both; where both have a class, of the second.
  local function with(maps, more)
    local out = {}
    for c, m in pairs(maps) do out[c] = m end
    for c, m in pairs(more) do out[c] = m end
    return out
  end
  matcher.with = with

  -- By how much other maps of a unit are better by scores, and how much of it may be rounding.
  local function gain_of(scores, old, new)
    local gain, noise = 0, 0
    for _, s in ipairs(scores) do
      local before, after = terms.reached(s.score, s.places, old), terms.reached(s.score, s.places, new)
      local d = after - before
      gain = gain + d:sum()
      local unit = s.score.dtype == "f64" and 1e-14 or 1e-6
      noise = noise + unit * math.sqrt(math.max(1, d:ne(0):to("i64"):sum())) * after:abs():max()
    end
    return gain, noise
  end

  local function accept(start, maps)
    for c, m in pairs(maps) do
      start.maps[c] = m
      start.version[c] = (start.version[c] or 0) + 1
    end
  end

  -- Where a unit stands twice in one tensor the score is only the slope of the sum, so values decide.
  local function step_quadratic(job, start, unit, scores)
    local function value(maps) return terms.agreement(job.layout, job.a, job.b, maps, unit.tensors) end
    local now = value(start.maps)
    local candidate = solve(job, unit, scores, start)
    local reached = value(with(start.maps, candidate))
    local least = 1e-7 * math.abs(now)
    if reached <= now + least then
      candidate = require "align.relaxed"(core).improve(job, start, unit, candidate, reached - now)
      if not candidate then return 0 end
      reached = value(with(start.maps, candidate))
      if reached <= now + least then return 0 end
    end
    accept(start, candidate)
    return reached - now
  end

  -- Assigns a unit anew; returns what is gained (0: nothing, and the maps are as they were).
  local function step(job, start, unit)
    local seen = 0
    for _, term in ipairs(unit.terms) do seen = seen + version(start, term) end
    if start.solved[unit] == seen then return 0 end -- nothing has changed around it
    local scores = scores_of(job, start, unit)
    if unit.twice then
      local gain = step_quadratic(job, start, unit, scores)
      local after = 0
      for _, term in ipairs(unit.terms) do after = after + version(start, term) end
      start.solved[unit] = gain == 0 and after or nil
      return gain
    end
    start.solved[unit] = seen
    local found = solve(job, unit, scores, start)
    local gain, noise = gain_of(scores, start.maps, with(start.maps, found))
    if gain <= noise then return 0 end
    accept(start, found)
    return gain
  end

  -- ---- starts ----

  local function first_maps(job, k, o)
    local maps = {}
    for c, class in pairs(job.layout.classes) do
      if k > 1 and job.moving[c] then
        maps[c] = map.random_class(job.layout, class, ((o.seed or 0) * 4099 + k) * 1000003 + 2 * c)
        maps[c].under = class.under or {}
        if not job.flips(class) then maps[c].sign = nil end
      elseif o.start and o.start[c] then
        local m = o.start[c]
        if not m.index then fail("%s: the alignment to start from is soft", job.what) end
        maps[c] = { index = m.index, sign = m.sign, under = class.under or {} }
      elseif job.moving[c] then
        maps[c] = { index = map.identity_index(job.layout, class), under = class.under or {} }
      end
    end
    return maps
  end

  local function run_start(job, k, o, best, began)
    local start = { maps = first_maps(job, k, o), version = {}, scores = {}, solved = {}, prices = {} }
    local value = terms.agreement(job.layout, job.a, job.b, start.maps, job.names)
    local trace, sweeps, ended = { value }, 0, false
    for sweep = 1, o.sweeps or 100 do
      local gained = 0
      local order = tensor.randperm(#job.units, ((o.seed or 0) * 4099 + k) * 65537 + sweep):totable()
      for _, i in ipairs(order) do gained = gained + step(job, start, job.units[i]) end
      sweeps = sweep
      if gained <= 0 then break end
      value = value + gained
      trace[#trace + 1] = value
      if o.log and o.log { start = k, sweep = sweep, objective = value, best = best and math.max(best.objective, value)
        or value, seconds = core.now() - began } == false then
        ended = true
        break
      end
    end
    local objective = terms.agreement(job.layout, job.a, job.b, start.maps, job.names)
    return { maps = start.maps, objective = objective, trace = trace, sweeps = sweeps, ended = ended }
  end

  local function whole(what, name, v, least)
    if v ~= nil and (math.type(v) ~= "integer" or v < least) then
      fail("%s: %s is a whole number, at least %d, got %s", what, name, least, tostring(v))
    end
  end

  -- The best of o.restarts starts: { maps, objective, before, trace, starts }.
  function matcher.run(job, o)
    whole(job.what, "restarts", o.restarts, 1)
    whole(job.what, "sweeps", o.sweeps, 0)
    local began, best, starts = core.now(), nil, {}
    for k = 1, o.restarts or 1 do
      local one = run_start(job, k, o, best, began)
      starts[k] = { objective = one.objective, sweeps = one.sweeps }
      if not best or one.objective > best.objective then best = one end
      if one.ended then break end
    end
    best.before = terms.agreement(job.layout, job.a, job.b, {}, job.names)
    best.starts = starts
    return best
  end

  -- ---- what it would cost ----

  local function seconds_of(f)
    f()
    local t, n = core.now(), 0
    repeat
      f()
      n = n + 1
    until core.now() - t > 0.02
    return (core.now() - t) / n
  end

  -- From the shapes, and how fast a product and an assignment are here. 12 sweeps are usual.
  function matcher.estimate(job, o)
    local x = tensor.randn({ 384, 384 }, 1)
    local product = seconds_of(function() return x:matmul(x) end) / (2 * 384 ^ 3)
    local assignment = seconds_of(function() return core.assign(x, true) end) / 384 ^ 2.6
    local flops, once, assigned = 0, 0, 0
    for _, unit in ipairs(job.units) do
      local widest = 0
      for _, term in ipairs(unit.terms) do
        local own = 2 * term.rows * term.n ^ 2
        if term.constant then once = once + own else flops = flops + own end
        widest = math.max(widest, term.n)
      end
      assigned = assigned + widest ^ 2.6
    end
    local sweep = flops * product + assigned * assignment
    local starts = o.restarts or 1
    return { seconds_per_sweep = sweep, products = flops, bytes = job.bytes,
      seconds = once * product + starts * math.min(o.sweeps or 100, 12) * sweep }
  end

  return matcher
end
