-- SPDX-License-Identifier: Apache-2.0
-- How alike the features of two networks are, class by class, and the hard maps that follow: what align.activations
-- does, for those that build on it.
return function(core)
  local map = require "align.map"(core)
  local features = require "align.features"(core)
  local match = require "align.match"()
  local reached = require "align.terms"(core).reached
  local scores = {}

  local measures = {}

  local function deviation(own)
    if #own.shape == 2 then own = (own * tensor.eye(own.shape[1])):sum(2) end
    return own:clamp(0, math.huge):sqrt()
  end

  -- cov / ((s_a + eps) (s_b + eps)'); a feature that never moves has no correlation with any.
  function measures.correlation(m, eps)
    local a, b = deviation(m.own[1]) + eps, deviation(m.own[2]) + eps
    local size = a:unsqueeze(2) * b:unsqueeze(1)
    return tensor.where(size:gt(0), m.cross / size, 0)
  end

  function measures.absolute(m, eps) return measures.correlation(m, eps):abs() end
  function measures.covariance(m) return m.cross end
  function measures.product(m) return m.cross + m.mean[1]:unsqueeze(2) * m.mean[2]:unsqueeze(1) end

  -- function(moments) -> [N, N] of the options measure and eps.
  function scores.measure_of(what, o)
    local f = measures[o.measure or "correlation"]
    if not f then
      error(("%s: measure = %q; expected \"correlation\", \"covariance\", \"absolute\" or \"product\""):format(what,
        tostring(o.measure)), 0)
    end
    return function(m) return f(m, o.eps or 1e-4) end
  end

  -- Sources of which the first, the last or all are kept for each class, or those of parts that `from` chooses.
  local function chosen(what, sources, from)
    if from == nil or from == "all" then return sources end
    local keep, last = {}, {}
    if from == "first" or from == "last" then
      for i, s in ipairs(sources) do
        for _, c in ipairs(s.classes) do
          if not last[c.class] or from == "last" then last[c.class] = i end
        end
      end
      for _, i in pairs(last) do keep[i] = true end
    elseif type(from) == "function" then
      for i, s in ipairs(sources) do keep[i] = from(s.path) end
    else
      error(("%s: from is \"all\", \"first\", \"last\" or a function(part), got %s"):format(what, tostring(from)), 0)
    end
    local out = {}
    for i, s in ipairs(sources) do out[#out + 1] = keep[i] and s or nil end
    return out
  end

  local function covers(source, set)
    for _, c in ipairs(source.classes) do
      if set[c.class] then return true end
    end
    return false
  end

  -- The sources of the kind that is asked for, and for classes that are not seen there those of the other kind.
  -- -> sources, classes without any.
  function scores.sources(what, net, plan, theta, data, o)
    local events, maker = features.trace(net, theta, features.first(what, data))
    local site = o.site or "post"
    if site ~= "post" and site ~= "pre" then
      error(("%s: site = %q; expected \"post\" or \"pre\""):format(what, tostring(site)), 0)
    end
    local list, open = chosen(what, features.sources(net, plan, events, maker, site), o.from), {}
    for c in pairs(plan.classes) do open[c] = true end
    local function close(s)
      for _, c in ipairs(s.classes) do open[c.class] = nil end
    end
    for _, s in ipairs(list) do close(s) end
    if next(open) then
      local more = {}
      for _, s in ipairs(features.sources(net, plan, events, maker, site == "post" and "pre" or "post")) do
        if covers(s, open) then more[#more + 1] = s end
      end
      for _, s in ipairs(more) do
        list[#list + 1] = s
        close(s)
      end
    end
    return list, open
  end

  -- Moments at the sources of the classes of a layout. -> moments, names of the classes that are seen nowhere. o: data,
  -- site, from, batch, examples, own, precise.
  function scores.seen(what, net, plan, a, b, o)
    if o.data == nil then error(what .. ": data = … is needed: inputs, labels are not used", 0) end
    local one, two = features.opened(what, net, a), features.opened(what, net, b)
    local sources, open = scores.sources(what, net, plan, one, o.data, o)
    local left = {}
    for c in pairs(open) do left[#left + 1] = plan.classes[c].name end
    table.sort(left)
    if #sources == 0 then return {}, left end
    return features.moments(what, { { net = net, theta = one }, { net = net, theta = two } }, sources, o.data,
      { batch = o.batch, examples = o.examples, own = o.own, precise = o.precise }), left
  end

  -- Moments as terms of match.solve by a measure; of several places where the same classes are seen the mean counts.
  function scores.terms(moments, measure)
    local terms, by = {}, {}
    for _, m in ipairs(moments) do
      local ids = {}
      for k, c in ipairs(m.source.classes) do ids[k] = c.class end
      local key = table.concat(ids, " ")
      local t = by[key]
      if not t then
        t = { classes = {}, sizes = {}, count = 0, places = { { offset = 0, size = m.source.size, dual = false } } }
        for k, c in ipairs(m.source.classes) do
          t.classes[k], t.sizes[k], t.places[1][k] = c.class, c.size, { size = c.size, class = c.class }
        end
        by[key], terms[#terms + 1] = t, t
      end
      local s = measure(m)
      t.score, t.count = t.score and t.score + s or s, t.count + 1
    end
    for _, t in ipairs(terms) do t.score = t.score / t.count end
    return terms
  end

  -- Hard maps of all classes that terms are about.
  function scores.solve(plan, terms, flips, log)
    if #terms == 0 then return {} end
    local maps = match.solve(plan, terms, { flips = flips and map.may_flip or nil, log = log })
    for c, m in pairs(maps) do m.under = plan.classes[c].under or {} end
    return maps
  end

  -- How alike the features that are matched are, in the mean over the features of each source, before and after.
  function scores.matched(moments, maps, measure)
    local list = {}
    for k, m in ipairs(moments) do
      local t, n = scores.terms({ m }, measure)[1], m.source.size
      list[k] = { part = m.source.path, side = m.source.side, size = n, samples = m.n,
        before = reached(t.score, t.places, {}):sum() / n, after = reached(t.score, t.places, maps):sum() / n }
    end
    return list
  end

  return scores
end
