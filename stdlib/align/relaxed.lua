-- SPDX-License-Identifier: Apache-2.0
-- Maps relaxed to the convex hull of a group, and steps of Frank and Wolfe in it. The factors of a unit that stand
-- together in an axis (heads; heads and what is inside them) are moved by one matrix each, [places, places], and all of
-- them at once are a point between elements of the group: what is best in a direction is found by the same assignments
-- that match units (matcher.solve), and rounding is the assignment whose direction is the point itself. Along a line
-- the agreement of weights is a polynomial of low degree, so that the best step is exact (a few values give it).
return function(core)
  local multiply = require "align.axis".multiply
  local map = require "align.map"(core)
  local terms = require "align.terms"(core)
  local relaxed = {}

  -- The matrices of hard maps, by the key of terms.
  function relaxed.matrices(unit, maps, into)
    into = into or {}
    for _, term in ipairs(unit.terms) do
      if not into[term.key] then
        local index, factor = map.gather(term.places, maps), map.factor(term.places, maps)
        local one = tensor.eye(term.n)
        if index then one = index:unsqueeze(2):eq(tensor.arange(term.n) + 1):to "f32" end
        into[term.key] = factor and one * factor:unsqueeze(2) or one
      end
    end
    return into
  end

  -- A tensor moved by all terms (a list) but one.
  function relaxed.moved(list, t, x, but)
    for _, term in ipairs(list or {}) do
      if term ~= but and x[term.key] then
        t = multiply(t, term.axis, term.segments, term.segment, term.own, x[term.key])
      end
    end
    return t
  end

  -- The slope of <target, moved(t)> by the matrix of one of the terms.
  function relaxed.slope(list, term, target, t, x)
    return terms.unfold(term, target):t():matmul(terms.unfold(term, relaxed.moved(list, t, x, term)))
  end

  function relaxed.between(x, y, t)
    local out = {}
    for key, m in pairs(x) do out[key] = t == 0 and m or t == 1 and y[key] or m + (y[key] - m) * t end
    return out
  end

  -- The polynomial of degree #values - 1 through values at 0, 1/d, …, 1; its largest value on [0, 1] and where.
  function relaxed.best_on_line(values)
    local d = #values - 1
    local function at(t)
      local sum = 0
      for i = 0, d do
        local w = 1
        for j = 0, d do
          if j ~= i then w = w * (t - j / d) / ((i - j) / d) end
        end
        sum = sum + w * values[i + 1]
      end
      return sum
    end
    local best, where = values[1], 0
    for k = 1, 64 do
      local v = at(k / 64)
      if v > best then best, where = v, k / 64 end
    end
    local step = 1 / 64
    while step > 1e-9 do
      step = step / 2
      for _, t in ipairs { where - step, where + step } do
        if t >= 0 and t <= 1 and at(t) > best then best, where = at(t), t end
      end
    end
    return where, best
  end

  -- Where the assignment for the slope of a unit's sum does not gain: maps found on the way between, or nil.
  function relaxed.improve(job, start, unit, candidate, value)
    local matcher = require "align.matcher"(core)
    local others, list, degree = {}, {}, 1
    for c, m in pairs(start.maps) do others[c] = not unit.has[c] and m or nil end
    local moved, memo = {}, {}
    for _, name in ipairs(unit.tensors) do
      list[name] = {}
      moved[name] = map.move(job.b[name], job.layout.tensors[name].axes, others, memo)
    end
    for _, term in ipairs(unit.terms) do table.insert(list[term.name], term) end
    for _, name in ipairs(unit.tensors) do degree = math.max(degree, #list[name]) end
    local function value_of(x)
      local sum = 0
      for _, name in ipairs(unit.tensors) do sum = sum + job.a[name]:dot(relaxed.moved(list[name], moved[name], x)) end
      return sum
    end
    local x = relaxed.matrices(unit, start.maps)
    local now = value_of(x)
    local target, reached = candidate, now + value
    for _ = 1, 20 do
      local y = relaxed.matrices(unit, target)
      local values = { now }
      for k = 1, degree - 1 do values[k + 1] = value_of(relaxed.between(x, y, k / degree)) end
      values[degree + 1] = reached or value_of(y)
      local t, best = relaxed.best_on_line(values)
      if best - now <= 1e-6 * math.abs(now) then break end
      x, now, reached = relaxed.between(x, y, t), best, nil
      local scores = {}
      for i, one in ipairs(relaxed.scores(unit, function(term)
        return relaxed.slope(list[term.name], term, job.a[term.name], moved[term.name], x)
      end)) do scores[i] = one end
      target = matcher.solve(job, unit, scores, start)
    end
    return matcher.solve(job, unit, relaxed.scores(unit, x), start)
  end

  -- What matcher.solve takes, of matrices by key, or of a function of a term whose values are summed by key.
  function relaxed.scores(unit, of)
    local out, by = {}, {}
    for _, term in ipairs(unit.terms) do
      local one = by[term.key]
      if not one then
        one = { classes = term.classes, sizes = term.sizes, places = term.places, n = term.n }
        by[term.key], out[#out + 1] = one, one
        one.score = type(of) == "table" and of[term.key] or nil
      end
      if type(of) == "function" then
        local s = of(term)
        one.score = one.score and one.score + s or s
      end
    end
    return out
  end

  return relaxed
end
