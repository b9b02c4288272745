-- SPDX-License-Identifier: Apache-2.0
-- Curves through parameter space as records: the model at t, evaluation along them, lengths. What makes them (training
-- of bends, elastic bands, geodesics) is elsewhere.
return function(check, core)
  local descent = require "probe.descent"(check, core)
  local points = require "probe.points"(core)
  local record = require "probe.record"
  local fail, short = descent.fail, record.short
  local curves = {}

  local function bezier(n, t)
    local c, binomial = {}, 1.0
    for j = 0, n do
      c[j + 1] = binomial * (1 - t) ^ (n - j) * t ^ j
      binomial = binomial * (n - j) / (j + 1)
    end
    return c
  end

  local function polychain(n, t)
    local c = {}
    for j = 0, n do c[j + 1] = math.max(0.0, 1 - math.abs(t * n - j)) end
    return c
  end

  local kinds = { bezier = bezier, polychain = polychain, quadratic = function(_, t)
    return { (1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1) }
  end }

  function curves.kind(what, kind, bends)
    if not kinds[kind] then
      fail(what, "kind = %q; expected \"bezier\", \"polychain\" or \"quadratic\"", tostring(kind))
    end
    if kind == "quadratic" and bends ~= 1 then fail(what, "a quadratic curve has one bend, not %d", bends) end
  end

  -- The weights of first end, bends and last end at t.
  function curves.coefficients(kind, bends, t) return kinds[kind](bends + 1, t) end

  -- Of pivots at the places `knots` (from 0 to 1): straight pieces between them.
  local function between(knots, t)
    local c = {}
    for k = 1, #knots do c[k] = 0.0 end
    for k = 1, #knots - 1 do
      if t <= knots[k + 1] or k == #knots - 1 then
        local s = (t - knots[k]) / (knots[k + 1] - knots[k])
        c[k], c[k + 1] = 1 - s, s
        return c
      end
    end
  end

  local function vector_at(c, t)
    local w = c.knots and between(c.knots, t) or curves.coefficients(c.kind, #c.bends, t)
    local list = { { w[1], c.first } }
    for k, bend in ipairs(c.bends) do list[k + 1] = { w[k + 1], bend } end
    list[#list + 1] = { w[#w], c.last }
    return points.sum(list)
  end

  local function at(r, t)
    if type(t) ~= "number" or t < 0 or t > 1 then fail("curve", "t is a number from 0 to 1, got %s", tostring(t)) end
    local c = r.vectors()
    if t == 0 then return c.a elseif t == 1 then return c.b end
    return c.space.point(vector_at(c, t), c.a, c.b, t)
  end

  -- Least, greatest and mean value, and the mean by arc length.
  local function statistics(values, arc)
    local low, high, sum, area = math.huge, -math.huge, 0, 0
    for k, v in ipairs(values) do
      low, high, sum = math.min(low, v), math.max(high, v), sum + v
      if k > 1 then area = area + (arc[k] - arc[k - 1]) * (v + values[k - 1]) / 2 end
    end
    local length = arc[#arc] - arc[1]
    return { min = low, max = high, mean = sum / #values, by_length = length > 0 and area / length or values[1] }
  end

  local function path_of(r, f, o)
    check("curve:path", o, { "points", "t", "bn", "journal", "label" })
    local own = { points = 61, curve = function(t) return at(r, t) end }
    for key, v in pairs(o or {}) do own[key] = v end
    if own.t then own.points = nil end
    local c = r.vectors()
    local p = probe.path(f, own)
    p.arc = { 0.0 }
    local before = vector_at(c, p.t[1])
    for k = 2, #p.t do
      local v = vector_at(c, p.t[k])
      p.arc[k] = p.arc[k - 1] + descent.distance(before, v)
      before = v
    end
    p.length, p.straight = p.arc[#p.arc], descent.distance(vector_at(c, p.t[1]), before)
    p.statistics = { loss = statistics(p.loss, p.arc), error = p.error and statistics(p.error, p.arc) }
    return p
  end

  local function loss_at_end(losses)
    local n = math.min(#losses, 50)
    local sum = 0
    for k = #losses - n + 1, #losses do sum = sum + losses[k] end
    return n > 0 and sum / n or nil
  end

  -- A curve: a function of t.
  local new = record.kind("curve", {
    text = function(r)
      local words = { ("%s curve of %d %s"):format(r.kind, #r.points - 2, #r.points == 3 and "bend" or "bends"),
        "distance of the ends " .. short(r.straight) }
      if #r.losses > 0 then
        words[#words + 1] = ("%d steps, loss of the last ones %s"):format(#r.losses, short(loss_at_end(r.losses)))
      end
      if r.bound then words[#words + 1] = "bound " .. short(r.bound) end
      if r.saddle then words[#words + 1] = ("saddle %s at t = %s"):format(short(r.saddle), short(r.saddle_t)) end
      return table.concat(words, ", ")
    end,
    rows = record.losses.rows,
    plot = function(r, o)
      if r.path_points then return plot.path(r.path_points, o) end
      if #r.losses == 0 then error("record:plot: nothing was trained; plot c:path(f)", 0) end
      return record.losses.plot "training of the curve"(r, o)
    end,
    methods = { path = function(...)
      local ok, p = pcall(path_of, ...)
      if not ok then error(p, type(p) == "string" and not p:find "^[^\n]-:%d+: " and 2 or 0) end
      return p
    end },
    meta = { __call = function(r, t)
      local ok, m = pcall(at, r, t)
      if not ok then error(m, 2) end
      return m
    end },
  })

  -- c: kind or knots, space, a, b (as given), first, last (vectors), bends (vectors), losses.
  function curves.make(c)
    c.a, c.b = core.kind(c.a) == "model" and c.a:load() or c.a, core.kind(c.b) == "model" and c.b:load() or c.b
    local list = { c.a }
    for k, v in ipairs(c.bends) do
      list[k + 1] = c.space.point(v, c.a, c.b, c.knots and c.knots[k + 1] or k / (#c.bends + 1))
    end
    list[#list + 1] = c.b
    return new { kind = c.kind, points = list, knots = c.knots, losses = c.losses or {}, steps = c.steps,
      straight = descent.distance(c.first, c.last), vectors = function() return c end }
  end

  curves.path = path_of
  curves.methods = new { losses = {}, points = {} }
  return curves
end
