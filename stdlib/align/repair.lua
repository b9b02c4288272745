-- SPDX-License-Identifier: Apache-2.0
-- Variance repair. On the line between two aligned networks features cancel in part and their spread collapses, by
-- sqrt((1 + r) / 2) in the middle for channels of correlation r, and more with every layer. REPAIR (Jordan et al.
-- 2022, arXiv:2211.08403) gives each channel before an activation the mean and the standard deviation that lie between
-- those of the two ends. That is an affine map of each channel, so it goes into the weight and the bias of the part
-- that makes the channel, and the network stays the same network.
--
-- Which parts: those whose matrix produces a class of the layout. Whether its tensors scale what it puts out is
-- tried, not known by name.
local attempt = require "attempt"

return function(define, check, core)
  local features = require "align.features"(core)
  local leaves = require "train.leaves"(core)
  local net_of = require "nn.net"
  local what = "align.repair"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- ---- which parts ----

  local function broadcast(v, rank, axis)
    local shape = {}
    for k = 1, rank do shape[k] = k == axis and v.shape[1] or 1 end
    return v:reshape(shape)
  end

  -- The tensor with each channel of an axis times gain, in its own dtype.
  local function scaled(t, gain, axis)
    return (t:to "f64" * broadcast(gain, #t.shape, axis)):to(t.dtype)
  end

  local function has_class(t)
    for _, segments in ipairs(t and t.axes or {}) do
      for _, s in ipairs(segments) do
        for _, f in ipairs(s) do
          if f.class then return true end
        end
      end
    end
    return false
  end

  -- The axis of a site along which features move, and how many there are.
  local function channels_of(site)
    for axis, segments in ipairs(site and site.axes or {}) do
      local size, any = 0, false
      for _, s in ipairs(segments) do
        local wide = 1
        for _, f in ipairs(s) do wide, any = wide * f.size, any or f.class ~= nil end
        size = size + wide
      end
      if any then return axis, size end
    end
  end

  -- Does the part put out gain * y + shift after the fold?
  local function folds(p, e, theta)
    local n = p.channels
    local gain, shift = 1 + tensor.rand({ n }, 1, { dtype = "f64" }), tensor.rand({ n }, 2, { dtype = "f64" })
    local own = { [p.weight_name] = scaled(theta[p.weight], gain, p.axis) }
    if p.bias then
      local b = theta[p.bias]
      own[p.bias_name] = (b:to "f64" * gain + shift):to(b.dtype)
    end
    local ok, y = attempt(net_of.run, e.net, own, e.x, { mode = "eval" })
    if not ok or #y.shape ~= #e.y.shape then return false end
    local want = e.y:to "f64" * broadcast(gain, p.rank, p.out)
    if p.bias then want = want + broadcast(shift, p.rank, p.out) end
    local size = want:abs():max()
    return (y:to "f64" - want):abs():max() <= 1e-4 * (size > 0 and size or 1)
  end

  local floating = { f64 = true, f32 = true }

  -- The part of an event as { path, weight, bias, … }; else nil and why it is left alone, where it makes features.
  local function part_of(e, theta, plan, at, uses)
    local site, p = plan.sites[e.path], nil
    local out, channels = channels_of(site and site.output)
    if not out then return nil end
    for _, spec in ipairs(e.net.weights) do
      if #spec.shape > 1 and has_class(plan.tensors[at .. spec.name]) then
        if p then return nil, "several matrices make its features" end
        p = { path = e.path, weight = at .. spec.name, weight_name = spec.name, shape = spec.shape, out = out,
          channels = channels, rank = #e.y.shape }
      end
    end
    if not p then return nil end
    if not floating[e.x.dtype] then return nil, "it looks features up" end
    if #e.net.children > 0 or #e.net.weights > 2 then return nil, "more than a matrix and a bias make its features" end
    for _, spec in ipairs(e.net.weights) do
      if #spec.shape == 1 and spec.shape[1] == channels then p.bias, p.bias_name = at .. spec.name, spec.name end
    end
    if uses[p.weight] > 1 or p.bias and uses[p.bias] > 1 then return nil, "its tensors are used in several places" end
    for axis, size in ipairs(p.shape) do
      p.axis = axis
      if size == channels and folds(p, e, theta) then return p end
    end
    return nil, "its tensors do not scale what it puts out"
  end

  -- Parts in stages: what has the same input does not depend on one another. And what is left alone, with the reason.
  local function stages_of(net, plan, theta, events, needs_bias)
    local places, uses, runs = {}, {}, {}
    net_of.walk(net, function(n, path, at)
      places[path] = at
      for _, spec in ipairs(n.weights) do uses[at .. spec.name] = (uses[at .. spec.name] or 0) + 1 end
    end)
    for _, e in ipairs(events) do runs[e.path] = (runs[e.path] or 0) + 1 end
    local stages, by_input, left = {}, {}, {}
    for _, e in ipairs(events) do
      local p, why = part_of(e, theta, plan, places[e.path], uses)
      if p and runs[e.path] > 1 then p, why = nil, "it runs several times" end
      if p and needs_bias and not p.bias then p, why = nil, "it has no bias to take the mean" end
      if p then
        local stage = by_input[e.x] or {}
        if #stage == 0 then stages[#stages + 1], by_input[e.x] = stage, stage end
        stage[#stage + 1] = p
      elseif why then
        left[#left + 1] = { part = e.path, why = why }
      end
    end
    return stages, left
  end

  local function sources_of(stage)
    local list = {}
    for k, p in ipairs(stage) do
      list[k] = { path = p.path, side = "output", axis = p.out, rank = p.rank, size = p.channels,
        segment = { offset = 0, size = p.channels, { size = p.channels, class = true } } }
    end
    return list
  end

  -- ---- the goal, and how it is reached ----

  -- Between the two ends; spread says whether deviations or variances are averaged.
  local function goal_of(m, t, spread)
    local a, b = m.own[1]:sqrt(), m.own[2]:sqrt()
    local deviation
    if spread == "variance" then deviation = ((1 - t) * m.own[1] + t * m.own[2]):sqrt()
    else deviation = (1 - t) * a + t * b end
    return { mean = (1 - t) * m.mean[1] + t * m.mean[2], deviation = deviation }
  end

  -- What a channel is multiplied by. A channel that stands still stays as it is.
  local function gain_of(goal, deviation)
    return tensor.where(deviation:gt(0), goal / (deviation + 1e-8), 1)
  end

  -- gain * (y - mean) + shift of a part, folded.
  local function fold(theta, p, gain, mean, shift)
    theta[p.weight] = scaled(theta[p.weight], gain, p.axis)
    if p.bias then
      local b = theta[p.bias]
      theta[p.bias] = ((b:to "f64" - mean) * gain + shift):to(b.dtype)
    end
  end

  local function said(p, goal, deviation)
    local alive = goal.deviation:gt(0)
    local n = alive:sum()
    local ratio = tensor.where(alive, deviation / goal.deviation, 0):sum()
    return { part = p.path, weight = p.weight, bias = p.bias, channels = p.channels,
      deviation = n > 0 and ratio / n or 1.0 }
  end

  -- Layer after layer, each with what is before it repaired.
  local function forward(net, theta, stages, goals, data, o, rescale)
    local info, k = {}, 0
    for _, stage in ipairs(stages) do
      local seen = features.moments(what, { { net = net, theta = theta } }, sources_of(stage), data,
        { batch = o.batch, examples = o.examples })
      for i, p in ipairs(stage) do
        k = k + 1
        local goal, mean, deviation = goals[k], seen[i].mean[1], seen[i].own[1]:sqrt()
        local gain = gain_of(goal.deviation, deviation)
        if rescale then fold(theta, p, gain, 0, 0) else fold(theta, p, gain, mean, goal.mean) end
        info[k] = said(p, goal, deviation)
        if o.log then o.log(info[k]) end
      end
    end
    return info
  end

  -- All layers at once, from the correlation of the ends; exact in the first layer.
  local function closed(theta, stages, goals, ends, t, log)
    local info, k = {}, 0
    for _, stage in ipairs(stages) do
      for _, p in ipairs(stage) do
        k = k + 1
        local m, goal = ends[k], goals[k]
        local variance = (1 - t) ^ 2 * m.own[1] + t ^ 2 * m.own[2] + 2 * t * (1 - t) * m.cross
        local deviation = variance:clamp(0, math.huge):sqrt()
        fold(theta, p, gain_of(goal.deviation, deviation), goal.mean, goal.mean)
        info[k] = said(p, goal, deviation)
        if log then log(info[k]) end
      end
    end
    return info
  end

  -- ---- the function ----

  local kinds = { repair = true, rescale = true, closed_form = true, bn_reset = true }

  -- theta between a and b, as what they are, and a function that puts tensors into it.
  local function between(a, b, t)
    if core.kind(a) == "model" then
      local m = ((1 - t) * a:load() + t * b:load()):load()
      return m, function(values)
        local new = {}
        for name, v in pairs(values) do
          local old = m:tensor(name)
          new[name] = v.dtype ~= old.dtype and v:to(old.dtype) or v
        end
        return core.with_values(m, new)
      end
    end
    local m = {}
    for name, v in pairs(a) do m[name] = leaves.floating[v.dtype] and (1 - t) * v + t * b[name] or v end
    return m, function(values)
      local new = {}
      for name, v in pairs(m) do new[name] = values[name] and values[name]:to(v.dtype) or v end
      return new
    end
  end

  local function first(data, n)
    if not n or data.x.shape[1] <= n then return data end
    if type(data.take) == "function" then return data:take(n) end
    return { x = data.x[{ { 1, n } }] }
  end

  -- What is asked for: the kind, t, and whether it can be.
  local function asked(net, a, b, o)
    check(what, o, { "t", "data", "kind", "batch", "examples", "spread", "pin", "free", "log" })
    if not net_of.is(net) then fail("expected a network, got %s", core.kind(net)) end
    local kind_a, kind_b = core.kind(a), core.kind(b)
    if kind_a ~= kind_b or kind_a ~= "model" and kind_a ~= "table" then
      fail("expected two models (or two tables of tensors), got %s and %s", kind_a, kind_b)
    end
    local t = o.t or 0.5
    if type(t) ~= "number" or t ~= t or t < 0 or t > 1 then fail("t is a number from 0 to 1, got %s", tostring(t)) end
    if o.data == nil then fail "data = … is needed: inputs, labels are not used" end
    local buffers = false
    for _, p in ipairs(net:params()) do buffers = buffers or p.buffer end
    local kind = o.kind or (buffers and "bn_reset" or "repair")
    if not kinds[kind] then
      fail("kind = %q; expected \"repair\", \"rescale\", \"closed_form\" or \"bn_reset\"", tostring(kind))
    end
    if o.spread and o.spread ~= "deviation" and o.spread ~= "variance" then
      fail("spread = %q; expected \"deviation\" or \"variance\"", tostring(o.spread))
    end
    if kind == "bn_reset" and not buffers then
      fail "kind = \"bn_reset\", but the network has no running statistics; kind = \"repair\" is for it"
    elseif kind ~= "bn_reset" and buffers then
      fail("kind = %q, but the network has batch norms, which undo it; kind = \"bn_reset\" takes their statistics anew",
        kind)
    end
    return kind, t
  end

  local function nothing(left, kind)
    if #left == 0 then fail "there is nothing to repair: no part makes features that move" end
    local why = {}
    for k, l in ipairs(left) do why[k] = ("%s (%s)"):format(l.part, l.why) end
    fail("there is nothing to repair: %s%s", table.concat(why, ", "),
      kind ~= "rescale" and "; kind = \"rescale\" needs no bias" or "")
  end

  local function repair(net, a, b, o)
    o = o or {}
    local kind, t = asked(net, a, b, o)
    local theta, again = between(a, b, t)
    if kind == "bn_reset" then
      theta = eval.bn_reset(net, theta, first(o.data, o.examples), { batch = o.batch })
      return theta, { kind = kind, layers = {}, left = {} }
    end
    local plan, mixed = features.layout(what, net, a, o), features.opened(what, net, theta)
    local events = features.trace(net, mixed, features.first(what, o.data))
    local stages, left = stages_of(net, plan, mixed, events, kind ~= "rescale")
    local all, goals = {}, {}
    for _, stage in ipairs(stages) do
      for _, p in ipairs(stage) do all[#all + 1] = p end
    end
    if #all == 0 then nothing(left, kind) end
    local ends = features.moments(what, { { net = net, theta = features.opened(what, net, a) },
      { net = net, theta = features.opened(what, net, b) } }, sources_of(all), o.data,
      { batch = o.batch, examples = o.examples, cross = "each" })
    for k, m in ipairs(ends) do goals[k] = goal_of(m, t, o.spread) end
    local work, new = {}, {}
    for name, v in pairs(mixed) do work[name] = v end
    local layers
    if kind == "closed_form" then layers = closed(work, stages, goals, ends, t, o.log)
    else layers = forward(net, work, stages, goals, o.data, o, kind == "rescale") end
    for _, p in ipairs(all) do
      new[p.weight] = work[p.weight]
      if p.bias then new[p.bias] = work[p.bias] end
    end
    return again(new), { kind = kind, layers = layers, left = left }
  end

  define(what, "align.repair(net, a, b, {data =, t = 0.5, kind =, batch =, examples =, spread = \"deviation\", "
    .. "log =}) -> theta, info",
    "(1 - t) a + t b of two models that are aligned (b = p:apply(b)), with the spread that its features lost "
    .. "between them given back (REPAIR: Jordan et al. 2022, arXiv:2211.08403): each channel before an activation "
    .. "gets the mean (1 - t) m_a + t m_b and the standard deviation (1 - t) s_a + t s_b over the data. The affine "
    .. "maps that do so are folded into weights and biases, so theta is a model like any other. The last layer is "
    .. "left alone. Labels are not used.\n"
    .. "  kind: \"repair\": layer after layer, each with what is before it repaired, one pass over the data for "
    .. "each. \"rescale\": multiplies only, for parts without a bias too. \"closed_form\": all layers from one "
    .. "pass through a and b, the spread of the mixture being computed from the correlation of their channels: "
    .. "exact in the first layer, nearly as good behind. \"bn_reset\": eval.bn_reset, the default (and the only "
    .. "kind) where the network has batch norms\n"
    .. "  spread: \"variance\" averages variances instead\n"
    .. "  examples: at most so many of the data. log: function(info), called for each layer\n"
    .. "info has kind, layers (part, weight, bias, channels, deviation: what was left of the spread before, as a "
    .. "mean over the channels) and left: parts that make features and are left alone, and why. Where there is "
    .. "none to repair, it is an error that names them.",
    "local net = nn.mlp { 4, 16, 2 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local d = { x = tensor.normal({ 200, 4 }, 3) }\n"
    .. "local theta, info = align.repair(net, a, b, { data = d })\n"
    .. "print(info.kind, info.layers[1].part, info.layers[1].deviation < 1)\n-- > repair	fc1	true", repair)
end
