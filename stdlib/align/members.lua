-- SPDX-License-Identifier: Apache-2.0
-- Several networks that differ in their widths alone, taken together: each with its layout and its weights, the
-- correlations of their features, and one set of weights made of all. Of each class a member has a pair of maps into
-- the merged network: `forward` [new, old] for those who produce it, `back` [old, new] for those who read it, and a
-- merged tensor is
--
--   sum_i F_i W_i B_i / sum_i of what the F_i weigh there
--
-- so that an axis whose rows of F_i sum to one over all members is a sum as it stands, an axis that no map moves is
-- averaged, and axes inside other axes are a weighted mean.
return function(core)
  local axes = require "align.axis"
  local layout = require "align.layout"
  local map = require "align.map"(core)
  local features = require "align.features"(core)
  local match = require "align.match"()
  local scores = require "align.scores"(core)
  local net_of = require "nn.net"
  local resize = require "nn.resize"
  local members = {}

  local function fail(text, ...) error(text:format(...), 0) end

  -- The network for these tensors: the one given, with their widths.
  local function fitted(net, all)
    local shapes = {}
    for name, t in pairs(all) do shapes[name] = t.shape end
    return resize(net, shapes)
  end

  local function count(t)
    local n = 0
    for _ in pairs(t) do n = n + 1 end
    return n
  end

  -- The classes of both must be the same but for their sizes.
  local function correspond(what, first, other, k)
    for c, class in pairs(first.classes) do
      local twin = other.classes[c]
      if not twin or twin.name ~= class.name or #(twin.under or {}) ~= #(class.under or {}) then
        fail("%s: model %d does not have the parts of model 1: %s is %s there", what, k, class.name,
          twin and twin.name or "missing")
      end
    end
    if count(first.classes) ~= count(other.classes) then
      fail("%s: model %d has %d groups, model 1 has %d", what, k, count(other.classes), count(first.classes))
    end
  end

  -- net: for all models, whose widths then come from the tensors, or a list with one for each.
  -- { { net =, model = as given, stored = its tensors, theta = those in an arithmetic dtype, layout = }, … }; o: pin,
  -- free.
  function members.open(what, net, models, o)
    local several = type(net) == "table" and not net_of.is(net) and net or nil
    if several and #several ~= #models then fail("%s: %d networks for %d models", what, #several, #models) end
    local list = {}
    for k = 1, math.max(#models, 2) do
      local m = models[k]
      local own = several and several[k] or not several and net
      if not net_of.is(own) then fail("%s: expected a network, got %s", what, core.kind(own)) end
      local all = map.values(what, m)
      own = fitted(own, all)
      list[k] = { net = own, model = m, stored = all, theta = features.opened(what, own, m) }
      list[k].layout = layout.of(own, { pin = o.pin, free = o.free })
      if k > 1 then correspond(what, list[1].layout, list[k].layout, k) end
    end
    return list
  end

  -- Is the class neither inside another nor around one? Those are heads and what lies in them.
  function members.plain(list)
    local around = {}
    for _, class in pairs(list[1].layout.classes) do
      for _, c in ipairs(class.under or {}) do around[c] = true end
    end
    return function(class) return #(class.under or {}) == 0 and not around[class.id] end
  end

  -- ---- features ----

  local function deviations(t) return (t * tensor.eye(t.shape[1])):sum(1):clamp(0, math.huge):sqrt() end

  -- A feature that does not vary is correlated with nothing, but in two networks such are alike: dead units should
  -- find each other, and not keep two that live from it. still: what to say of two.
  local function normalised(t, s, r, still)
    s, r = s:unsqueeze(2), r:unsqueeze(1)
    local size = s * r
    local c = tensor.where(size:gt(1e-30), t / tensor.maximum(size, 1e-30), 0):clamp(-1, 1)
    return still == 0 and c or tensor.where(tensor.maximum(s, r):gt(1e-15), c, still)
  end

  -- Where the features of all members are seen, those sources that `keep` chooses (nil: all): for each member a list,
  -- in the same order. o: site and from, as in align.activations.
  function members.sources(what, list, data, o, keep)
    local all, kept = {}, {}
    for i, m in ipairs(list) do
      all[i], kept[i] = scores.sources(what, m.net, m.layout, m.theta, data, o), {}
      if #all[i] ~= #all[1] then
        fail("%s: the features of model %d are not seen where those of model 1 are", what, i)
      end
    end
    for k, source in ipairs(all[1]) do
      if not keep or keep(source) then
        for i in ipairs(list) do table.insert(kept[i], all[i][k]) end
      end
    end
    return kept
  end

  -- The correlations over data of what sources show: function(k, i, j) -> f64 [n_i, n_j] of source k between the
  -- members i and j. o: batch, examples.
  function members.correlations(what, list, kept, data, o)
    local first = kept[1]
    local function member(i) return { net = list[i].net, theta = list[i].theta, sources = kept[i] } end
    local blocks = {} -- [i][j] = moments of the members i and j > i
    for i = 1, #list do
      blocks[i] = {}
      for j = i + 1, #list do
        blocks[i][j] = features.moments(what, { member(i), member(j) }, first, data,
          { batch = o.batch, examples = o.examples, own = "full", cross = "full", precise = true })
      end
    end
    local function correlation(k, i, j)
      if i > j then return correlation(k, j, i):t() end
      if i < j then
        local m = blocks[i][j][k]
        return normalised(m.cross, deviations(m.own[1]), deviations(m.own[2]), 1)
      end
      local own = i < #list and blocks[i][i + 1][k].own[1] or blocks[i - 1][i][k].own[2]
      local s = deviations(own)
      return normalised(own, s, s, 0)
    end
    return correlation
  end

  -- The sources that show one plain class, by class, and the numbers of all others.
  function members.by_class(list, sources)
    local plain, of, nested = members.plain(list), {}, {}
    for k, source in ipairs(sources) do
      local c = source.classes[1].class
      if #source.classes == 1 and plain(list[1].layout.classes[c]) then
        of[c] = of[c] or {}
        table.insert(of[c], k)
      else
        nested[#nested + 1] = k
      end
    end
    return of, nested
  end

  -- Of a partition of the features of all members [n], groups from 1: for each member forward [wanted, own] and back
  -- [own, wanted]. A merged feature is the mean of its group, and goes to all who read one of it.
  function members.maps_of(group, sizes, wanted)
    local one = group:unsqueeze(2):eq(tensor.arange(wanted) + 1):to "f32" -- [all features, groups]
    local share, out, first = one:sum(1), {}, 0
    for i, n in ipairs(sizes) do
      local own = one[{ { first + 1, first + n } }]
      out[i] = { forward = (own / share):t():clone(), back = own:clone() }
      first = first + n
    end
    return out
  end

  -- Classes inside others (heads), matched one to one with those of the first member: { [class] = index } for each.
  -- numbers: the sources that show them.
  function members.matched(what, list, sources, numbers, correlation)
    local out = { {} }
    for i = 2, #list do
      local terms = {}
      for _, k in ipairs(numbers) do
        local t = { classes = {}, sizes = {} }
        for q, c in ipairs(sources[k].classes) do
          t.classes[q], t.sizes[q] = c.class, c.size
          if list[i].layout.classes[c.class].size ~= c.size then
            fail("%s: %s has %d parts in model 1 and %d in model %d; heads are not merged into fewer: pin them",
              what, list[1].layout.classes[c.class].name, c.size, list[i].layout.classes[c.class].size, i)
          end
        end
        t.score = correlation(k, 1, i) / sources[k].size
        terms[#terms + 1] = t
      end
      out[i] = #terms > 0 and match.solve(list[1].layout, terms, {}) or {}
    end
    return out
  end

  -- ---- merged weights ----

  -- Maps by which a vector of ones becomes what the producers weigh, and stays one for those who read.
  local function weighing(maps)
    local out = {}
    for c, m in pairs(maps) do
      local forward, back = map.matrices(m)
      local shape = back.shape
      out[c] = { under = m.under, forward = forward:to "f64",
        back = tensor.full(shape, 1 / shape[2], { dtype = "f64" }) }
    end
    return out
  end

  local function produces(segments, maps)
    for _, s in ipairs(segments) do
      for k, f in ipairs(s) do
        if f.class and maps[f.class] and not axes.is_dual(s, k) then return true end
      end
    end
    return false
  end

  -- What each entry weighs: 1, or a tensor that broadcasts.
  local function weight_of(about, maps, weights)
    local out = 1
    for axis, segments in pairs(about.axes) do
      if produces(segments, maps) then
        local v = map.axis(tensor.ones({ about.shape[axis] }, { dtype = "f64" }), 1, segments, weights)
        local shape = {}
        for d = 1, #about.shape do shape[d] = d == axis and v.shape[1] or 1 end
        out = v:reshape(shape) * out
      end
    end
    return out
  end

  -- alignments: for each member its maps (map.new). names: which tensors; they are in arithmetic dtypes.
  function members.assembled(what, list, alignments, names)
    local out, weights = {}, {}
    for i, p in ipairs(alignments) do weights[i] = weighing(p.maps) end
    for _, name in ipairs(names) do
      local sum, total
      for i, p in ipairs(alignments) do
        local about = list[i].layout.tensors[name]
        local t = map.move(list[i].theta[name], about.axes, p.maps)
        local w = weight_of(about, p.maps, weights[i])
        if sum and net_of.shape_text(sum.shape) ~= net_of.shape_text(t.shape) then
          fail("%s: %s has the shape %s in model 1 and %s in model %d: this width is of no group that is merged", what,
            name, net_of.shape_text(sum.shape), net_of.shape_text(t.shape), i)
        end
        sum, total = sum and sum + t or t, total and total + w or w
      end
      out[name] = (sum / (type(total) == "number" and total or total:to(sum.dtype))):to(sum.dtype)
    end
    return out
  end

  -- Segments as they are for those who make the features.
  local function as_made(segments)
    local out = {}
    for k, s in ipairs(segments) do
      out[k] = { offset = s.offset, size = s.size, dual = false }
      for q, f in ipairs(s) do out[k][q] = { size = f.size, class = f.class, dual = false } end
    end
    return out
  end

  -- Along one axis of a tensor: what each member's entries weigh in the merged ones, [n] each, and a function(values,
  -- dim) that merges what the members show there: a list of tensors with these entries along dimension dim.
  function members.axis(list, alignments, name, axis)
    local made, weights, total = {}, {}, nil
    for i, p in ipairs(alignments) do
      local about = list[i].layout.tensors[name]
      made[i] = as_made(about.axes[axis])
      weights[i] = axes.along(tensor.ones({ about.shape[axis] }, { dtype = "f64" }), 1, made[i], weighing(p.maps))
      total = total and total + weights[i] or weights[i]
    end
    return weights, function(values, dim)
      local sum
      for i, p in ipairs(alignments) do
        local t = axes.along(values[i], dim, made[i], p.maps)
        sum = sum and sum + t or t
      end
      local shape = {}
      for d = 1, #sum.shape do shape[d] = d == dim and sum.shape[d] or 1 end
      return sum / total:to(sum.dtype):reshape(shape)
    end
  end

  -- All of them as one network: it, and its tensors.
  function members.whole(what, list, alignments)
    local names, shapes = {}, {}
    for k, p in ipairs(list[1].net:params()) do names[k] = p.name end
    local values = members.assembled(what, list, alignments, names)
    for name, t in pairs(values) do shapes[name] = t.shape end
    return resize(list[1].net, shapes), values
  end

  -- Tensors by name as a model for a network: in the form of the first model where the shapes are the same.
  function members.model(net, list, values)
    local first, stored = list[1].model, list[1].stored
    local same, out, order = core.kind(first) == "model", {}, {}
    for k, p in ipairs(net:params()) do
      local was, t = stored[p.name], values[p.name]
      out[p.name] = was and t:to(was.dtype) or t
      order[k] = { p.name, out[p.name] }
      same = same and was ~= nil and net_of.shape_text(was.shape) == net_of.shape_text(t.shape)
    end
    if core.kind(first) == "table" then return out end
    if same then return core.with_values(first:load(), out) end
    return require "nn.init".described(net, model.new(order))
  end

  -- z:merge {bn =, batch =} of what has net, list and values. check: of options.
  function members.merge(check, name)
    return function(z, o)
      check(name, o, { "bn", "batch" })
      local m = members.model(z.net, z.list, z.values)
      return o and o.bn and eval.bn_reset(z.net, m, o.bn, { batch = o.batch }) or m
    end
  end

  return members
end
