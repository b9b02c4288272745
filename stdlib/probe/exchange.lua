-- SPDX-License-Identifier: Apache-2.0
-- Layer by layer from one network to another: only the tensors of one layer, or of a first or last part of the network,
-- move, all else stays.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local record = require "probe.record"
  local points = require "probe.points"(core)
  local shape = require "probe.shape"
  local short = record.short

  local function fail(text, ...) error("probe.exchange: " .. text:format(...), 0) end

  -- { {name =, inside = function(name) -> boolean}, … } in order of the forward pass.
  local function layers_of(f, o)
    local net = o.net or core.kind(f) == "loss" and f.net
    if not net then fail "a function of a model needs net = the network whose layers are exchanged" end
    expect.one("probe.exchange", "net", net, "a network")
    local list = {}
    for name, inside in net:layers() do list[#list + 1] = { name = name, inside = inside } end
    return list, net
  end

  -- The parts that move: one layer each, or sums of them.
  local function parts_of(layers, cumulative)
    if not cumulative then return layers end
    if cumulative ~= "first" and cumulative ~= "last" then
      fail("cumulative = %q; expected \"first\" (a layer and all before it) or \"last\" (and all behind it)",
        tostring(cumulative))
    end
    local parts = {}
    for k, layer in ipairs(layers) do
      local from, to = cumulative == "first" and 1 or k, cumulative == "first" and k or #layers
      parts[k] = { name = layer.name, inside = function(name)
        for j = from, to do
          if layers[j].inside(name) then return true end
        end
        return false
      end }
    end
    return parts
  end

  -- A random vector over the names of d with the norm of d.
  local function control(d, seed)
    local hash, list = require "nn.net".hash, {}
    for _, name in ipairs(d:names()) do
      local t = d:tensor(name)
      list[#list + 1] = { name, tensor.normal(t.shape, seed * 1000003 + hash(name), { dtype = t.dtype }) }
    end
    local r = model.new(list, { mass = 0 })
    return r * (points.norm(d) / points.norm(r))
  end

  local new_exchange = record.kind("exchange", {
    text = function(r)
      local rows = {}
      for k, name in ipairs(r.layers) do
        local row = { name, short(r.barrier_loss[k]), short(r.argmax_t[k]), short(r.rise[k]), short(r.loss[k][#r.t]) }
        if r.barrier_error then row[#row + 1] = short(r.barrier_error[k]) end
        rows[k] = row
      end
      local head = { "layer", "barrier", "at t", "highest above " .. r.stays, "loss at the end" }
      if r.barrier_error then head[#head + 1] = "error barrier" end
      local how = r.cumulative == "first" and "each layer and all before it" or r.cumulative == "last"
        and "each layer and all behind it" or "one layer at a time"
      local what = r.control and "a random direction" or r.stays == "a" and "b" or "a"
      return ("exchange of %s into %s, %s\n"):format(what, r.stays, how) .. record.columns(head, rows)
    end,
    rows = function(r)
      local rows = {}
      for k, name in ipairs(r.layers) do
        for i, t in ipairs(r.t) do rows[#rows + 1] = { name, t, r.loss[k][i], r.error and r.error[k][i] } end
      end
      return { "layer", "t", "loss", r.error and "error" }, rows
    end,
    plot = function(r, o)
      local from = o.field or "loss"
      local all = { r[from], rows = r.layers, columns = r.t, xlabel = o.xlabel or "t", title = o.title, label = from }
      for key, v in pairs(o) do if key ~= "field" then all[key] = v end end
      return plot.matrix(all)
    end,
  })

  define("probe.exchange", "probe.exchange(f, a, b, {points = 11, t =, cumulative =, stays = \"a\", control =, net =, "
    .. "bn =, journal =}) -> exchange",
    "The layer-wise barrier (Adilova et al. 2023, arXiv:2307.06966). Question: which layers stand between two "
    .. "networks? For each layer (net:layers()) its tensors go from a's to b's, all others stay; loss[k][i] and error "
    .. "at t[i], barrier_loss[k] with argmax_t[k] along the layer's own path, rise[k] the highest loss above that of "
    .. "the network that stays.\n"
    .. "  cumulative: \"first\": each layer and all before it move together, \"last\": and all behind it; all layers "
    .. "at once are the line from a to b\n"
    .. "  stays: \"b\": the other way round, a's layers into b (t = 0 is b then)\n"
    .. "  control: a seed: a random direction of the same norm in the place of b's layer, to tell b's layer from "
    .. "noise\n"
    .. "  net: the network, where f is a function of a model; bn, journal, points, t: as in probe.path\n"
    .. "Reading it: r:plot() shows layers against t; rows that stay dark are layers that fit either network, and "
    .. "what a control does too is no property of b's layer. Cost: layers times points passes over the data. "
    .. "Misleading: networks that are not aligned differ by permutations in every layer, and moving one of two "
    .. "neighbouring layers breaks what fits together; a layer that has few tensors moves little.",
    "local net = nn.mlp { 2, 4, 2 }\n"
    .. "local f = net:loss { x = tensor { {1, 2}, {3, 4} }, y = tensor({ 0, 1 }, { dtype = \"i64\" }) }\n"
    .. "local r = probe.exchange(f, net:init { seed = 1 }, net:init { seed = 2 }, { points = 3 })\n"
    .. "print(r.layers[2], #r.loss, #r.loss[1])\n-- > fc2\t2\t3",
    told(function(f, a, b, o)
      local what = "probe.exchange"
      check(what, o, { "points", "t", "cumulative", "stays", "control", "net", "bn", "journal" })
      o = o or {}
      a, b = points.loaded(what, a, "the first model"), points.loaded(what, b, "the second model")
      local stays = o.stays or "a"
      if stays ~= "a" and stays ~= "b" then fail("stays = %q; expected \"a\" or \"b\"", tostring(stays)) end
      if stays == "b" then a, b = b, a end
      local parts = parts_of(layers_of(f, o), o.cumulative)
      local ts = o.t and points.list(what, "t", o.t)
        or points.evenly(0, 1, points.count(what, "points", o.points or 11, 2))
      local e = points.open(what, f, { bn = o.bn, journal = o.journal, total = #parts * #ts,
        identity = o.journal and { ts, o.cumulative or "one", stays, o.control or "none", points.fingerprint(f),
          points.fingerprint(a), points.fingerprint(b) } })
      e.like(a)
      local r = { layers = {}, t = ts, barrier_loss = {}, argmax_t = {}, rise = {}, loss = {}, bn = e.bn, stays = stays,
        cumulative = o.cumulative, control = o.control }
      local _ <close> = core.run(false)
      for k, part in ipairs(parts) do
        local d = (b - a):only(part.inside)
        if o.control then d = control(d, o.control) end
        local line = {}
        local values = e.all(#ts, function(i)
          return function() return points.sum { { 1, a }, { ts[i], d } } end, { k, i }
        end)
        for i, value in ipairs(values) do
          for name, v in pairs(value) do
            line[name] = line[name] or {}
            line[name][i] = v
          end
        end
        local height, at = shape.above_chord(ts, line.loss)
        r.layers[k], r.loss[k], r.barrier_loss[k], r.argmax_t[k] = part.name, line.loss, height, ts[at]
        r.rise[k] = shape.greatest(line.loss) - line.loss[1]
        if line.error then
          r.error, r.barrier_error = r.error or {}, r.barrier_error or {}
          r.error[k], r.barrier_error[k] = line.error, (shape.above_chord(ts, line.error))
        end
      end
      return new_exchange(r)
    end))
end
