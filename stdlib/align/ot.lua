-- SPDX-License-Identifier: Apache-2.0
-- Model fusion by optimal transport (Singh and Jaggi 2020, arXiv:1910.05653; for transformers Imfeld et al. 2023,
-- arXiv:2310.05719). Group by group, in order of the network, the features of b are carried to those of a where this
-- costs least, each by what makes it: the weights that write it, whose own inputs are carried already, or its values
-- on data. A plan T with the marginals p of a and q of b gives the maps
--
--   forward = diag(1 / p) T  [a's, b's]      a feature of a is the mean of what is carried to it
--   back = T' diag(1 / p)    [b's, a's]      what reads a feature of a reads the mean of what was carried to it
--
-- or, with readers = "sum", back = diag(1 / q) T': what reads a feature of b reads all that it is carried to, in
-- shares, so that sums over wider layers stay as they are. The same where widths and marginals are.
return function(define, check, core)
  local axis = require "align.axis"
  local features = require "align.features"(core)
  local map = require "align.map"(core)
  local match = require "align.match"()
  local members = require "align.members"(core)
  local terms_of = require "align.terms"(core)
  local net_of = require "nn.net"
  local what = "align.ot"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local function one_of(o, name, choices)
    local v = o[name] == nil and choices[1] or o[name]
    for _, c in ipairs(choices) do
      if v == c then return v end
    end
    local said = {}
    for k, c in ipairs(choices) do said[k] = ("%q"):format(c) end
    fail("%s = %s; expected %s", name, tostring(v), table.concat(said, ", "))
  end

  -- ---- what tells features apart: { a = squares [n], b = squares [m], ab = products [n, m] }, added over writers ----

  local function plus(s, t)
    if not s then return t end
    return { a = s.a + t.a, b = s.b + t.b, ab = s.ab + t.ab }
  end

  local function gram(x, y) -- rows are what is summed over
    x, y = x:to "f64", y:to "f64"
    return { a = (x * x):sum(1), b = (y * y):sum(1), ab = x:t():matmul(y) }
  end

  local grounds = {}

  function grounds.squared(s) return (s.a:unsqueeze(2) + s.b:unsqueeze(1) - 2 * s.ab):clamp(0, math.huge) end
  function grounds.euclidean(s) return grounds.squared(s):sqrt() end
  function grounds.cosine(s)
    local size = s.a:sqrt():unsqueeze(2) * s.b:sqrt():unsqueeze(1)
    return 1 - tensor.where(size:gt(1e-30), s.ab / tensor.maximum(size, 1e-30), 0)
  end

  -- ---- plans ----

  local function uniform(n) return tensor.full({ n }, 1 / n, { dtype = "f64" }) end

  -- In proportion to the norms, none of which counts for nothing.
  local function important(squares)
    local v = squares:sqrt()
    v = v + math.max(1e-6 * v:mean(), 1e-12)
    return v / v:sum()
  end

  -- The plan [n, m] and its marginals.
  local function planned(s, o)
    local cost = grounds[o.ground](s)
    local n, m = cost.shape[1], cost.shape[2]
    local p, q
    if o.marginals == "importance" then p, q = important(s.a), important(s.b) else p, q = uniform(n), uniform(m) end
    if n == m and not o.reg and o.marginals == "uniform" then
      local index = align.assignment(cost)
      return { index = index:reshape { 1, n } }, index:unsqueeze(2):eq(tensor.arange(m) + 1):to "f64" / n, p, q
    end
    return nil, align.transport(cost, p, q, { reg = o.reg }), p, q
  end

  local function soft(plan, p, q, o)
    local forward = plan / p:unsqueeze(2)
    local back = plan:t() / (o.readers == "sum" and q:unsqueeze(2) or p:unsqueeze(1))
    return { forward = forward:to "f32":unsqueeze(1):clone(), back = back:to "f32":unsqueeze(1):clone() }
  end

  -- The map of a class from what its writers say, { { s =, weight = }, … }: the weighted mean of their plans.
  local function map_of(writers, o)
    local hard, plan, p, q = planned(writers[1].s, o)
    if #writers == 1 then return hard or soft(plan, p, q, o) end
    local total
    local function add(sum, v, w) return sum and sum + w * v or w * v end
    plan, p, q = nil, nil, nil
    for _, w in ipairs(writers) do
      local share = o.residual == "weighted" and w.weight or 1
      local _, t, x, y = planned(w.s, o)
      plan, p, q, total = add(plan, t, share), add(p, x, share), add(q, y, share), (total or 0) + share
    end
    return soft(plan / total, p / total, q / total, o)
  end

  -- ---- by weights ----

  -- The matrix [rows, places] of a term of b, the tensor moved into a's features along all that is not of the unit.
  local function unfolded(term, about, t, others)
    local after = axis.after(term.segments, others)
    for k, segment in ipairs(term.segments) do
      if segment == term.segment then
        return axis.unfold(map.move(t, about.axes, others), term.axis, after[k], term.own)
      end
    end
  end

  -- Which part writes with a tensor, and how early.
  local function places_of(net)
    local of = {}
    for k, t in ipairs(net_of.structure(net).tensors) do of[t.name] = { path = t.path, number = k } end
    return of
  end

  -- What the terms of a unit say of its features: { { s =, term = }, … }. Those whose inputs are not carried yet are
  -- left out; the second result says so.
  local function said_by(unit, other, list, maps)
    local out, open, others = {}, false, {}
    for c, m in pairs(maps) do others[c] = not unit.has[c] and m or nil end
    for k, term in ipairs(unit.terms) do
      local ready = not axis.is_dual(term.segment, term.own[1]) and not term.twice
      for c in pairs(term.reads) do
        if ready and not others[c] then ready, open = false, true end
      end
      if ready then
        local x = terms_of.unfold(term, list[1].theta[term.name])
        local y = unfolded(other.terms[k], list[2].layout.tensors[term.name], list[2].theta[term.name], others)
        if x.shape[1] ~= y.shape[1] then
          fail("%s has %d entries a feature in a and %d in b: this width is of no group", term.name, x.shape[1],
            y.shape[1])
        end
        out[#out + 1] = { s = gram(x, y), term = term }
      end
    end
    return out, open
  end

  -- By part, in order of the network.
  local function writers_of(said, place)
    local by, writers = {}, {}
    for _, one in ipairs(said) do
      local at = place[one.term.name]
      local w = by[at.path]
      if not w then
        w = { path = at.path, number = at.number }
        by[at.path], writers[#writers + 1] = w, w
      end
      w.s, w.matrix, w.number = plus(w.s, one.s), w.matrix or #one.term.shape > 1, math.min(w.number, at.number)
    end
    table.sort(writers, function(v, w) return v.number < w.number end)
    return writers
  end

  -- Root mean squares of what parts put out, for both models in the mean.
  local function sizes_of(list, o)
    local sums, n = {}, {}
    for _, m in ipairs(list) do
      features.batches(what, o.data, { batch = o.batch, examples = o.examples or 1024 }, function(b)
        net_of.run(m.net, m.theta, b, { watch = function(_, path, _, y)
          local v = y:to "f64"
          sums[path] = (sums[path] or 0) + (v * v):sum()
          n[path] = (n[path] or 0) + v:numel()
        end })
      end)
    end
    for path, v in pairs(sums) do sums[path] = math.sqrt(v / n[path]) end
    return sums
  end

  -- The map of a class from all that writes it. Of a stream, which several parts write, those that o.residual says.
  local function carried(list, c, writers, o, sizes)
    local parts = {}
    for _, w in ipairs(writers) do
      w.weight = sizes and sizes[w.path] or w.weight or 1
      parts[#parts + 1] = w.matrix and w or nil
    end
    if #parts < 2 or o.residual == "joint" then
      local s
      for _, w in ipairs(writers) do s = plus(s, w.s) end
      return map_of({ { s = s } }, o)
    end
    if o.residual == "first" then return map_of({ parts[1] }, o) end
    if o.residual ~= "identity" then return map_of(parts, o) end
    local class, other = list[1].layout.classes[c], list[2].layout.classes[c]
    if class.size ~= other.size then
      fail("residual = \"identity\": %s has %d features in a and %d in b", class.name, class.size, other.size)
    end
    return { index = map.identity_index(list[1].layout, class) }
  end

  -- Heads and what is inside them: hard maps. terms: { { classes =, sizes =, n = of b, s = }, … }
  local function nested(list, terms, maps, o)
    local scored = {}
    for i, t in ipairs(terms) do
      local n = 1
      for _, size in ipairs(t.sizes) do n = n * size end
      if n ~= t.n then
        fail("%s: heads and what is inside them are carried one to one, and b has others: pin them",
          list[1].layout.classes[t.classes[1]].name)
      end
      -- as hard maps go, squared distances are least where products are largest; so signs can be chosen as well
      local score = o.ground == "cosine" and 1 - grounds.cosine(t.s) or t.s.ab
      scored[i] = { classes = t.classes, sizes = t.sizes, score = score }
    end
    for c, m in pairs(match.solve(list[1].layout, scored, { flips = map.may_flip })) do maps[c] = m end
  end

  local function units_of(m)
    local units = terms_of.units(m.layout, function() return true end)
    local counts = map.counts(m.layout, m.net)
    terms_of.find(m.layout, units, function(name) return counts(name, m.theta[name]) end)
    return units
  end

  local function by_weights(list, o)
    local units, others, place, maps = units_of(list[1]), units_of(list[2]), places_of(list[1].net), {}
    local sizes = o.residual == "weighted" and sizes_of(list, o) or nil
    for _ = 1, 2 do -- streams are written by what reads them too: the first time those writers are left out
      local waits = false
      for k, unit in ipairs(units) do
        local said, open = said_by(unit, others[k], list, maps)
        waits = waits or open
        if #unit.classes == 1 and #said > 0 then
          local c = unit.classes[1]
          maps[c] = carried(list, c, writers_of(said, place), o, sizes)
          maps[c].under = {}
        elseif #said > 0 then
          local terms = {}
          for i, one in ipairs(said) do
            terms[i] = { classes = one.term.classes, sizes = one.term.sizes, n = #one.s.b, s = one.s }
          end
          nested(list, terms, maps, o)
          for _, c in ipairs(unit.classes) do
            if maps[c] then maps[c].under = list[1].layout.classes[c].under or {} end
          end
        end
      end
      if not waits then break end
    end
    return maps
  end

  -- ---- by activations ----

  local function by_activations(list, o)
    local kept = members.sources(what, list, o.data, o)
    local function member(i) return { net = list[i].net, theta = list[i].theta, sources = kept[i] } end
    local moments = features.moments(what, { member(1), member(2) }, kept[1], o.data,
      { batch = o.batch, examples = o.examples, cross = "full", precise = true })
    local plain, maps, writers, order, terms = members.plain(list), {}, {}, {}, {}
    for k, m in ipairs(moments) do
      local source, a, b = kept[1][k], m.mean[1], m.mean[2]
      local s = { a = m.own[1] + a * a, b = m.own[2] + b * b, ab = m.cross + a:unsqueeze(2) * b:unsqueeze(1) }
      local c = source.classes[1].class
      if #source.classes == 1 and plain(list[1].layout.classes[c]) then
        if not writers[c] then writers[c], order[#order + 1] = {}, c end
        table.insert(writers[c], { s = s, matrix = true, weight = math.sqrt(s.a:mean()) + math.sqrt(s.b:mean()) })
      else
        local t = { classes = {}, sizes = {}, n = #b, s = s }
        for q, own in ipairs(source.classes) do t.classes[q], t.sizes[q] = own.class, own.size end
        terms[#terms + 1] = t
      end
    end
    for _, c in ipairs(order) do maps[c] = carried(list, c, writers[c], o) end
    if #terms > 0 then nested(list, terms, maps, o) end
    return maps
  end

  -- ---- what scripts get ----

  local function relative(list, p, o)
    local x = map.inputs(what, list[1].net, o.data, 32)
    local before = net_of.run(list[2].net, list[2].theta, x, {})
    local after = net_of.run(list[1].net, p:apply(list[2].theta), x, {})
    return (after - before):abs():max() / math.max(before:abs():max(), 1e-30)
  end

  local options = { "mode", "reg", "ground", "marginals", "residual", "readers", "data", "site", "from", "batch",
    "examples", "pin", "free", "check" }

  local function ot(net, a, b, o)
    o = o or {}
    check(what, o, options)
    local how = { mode = one_of(o, "mode", { "weights", "activations" }), reg = o.reg, data = o.data, batch = o.batch,
      examples = o.examples, site = o.site or "pre", from = o.from,
      ground = one_of(o, "ground", { "euclidean", "squared", "cosine" }),
      marginals = one_of(o, "marginals", { "uniform", "importance" }),
      readers = one_of(o, "readers", { "mean", "sum" }),
      residual = one_of(o, "residual", { "joint", "mean", "weighted", "first", "identity" }) }
    if how.reg ~= nil and not (type(how.reg) == "number" and how.reg > 0) then
      fail("reg = %s; expected a number above 0, or nothing for exact plans", tostring(how.reg))
    end
    if how.data == nil and (how.mode == "activations" or how.residual == "weighted") then
      fail("%s needs data = …; labels are not used",
        how.mode == "activations" and 'mode = "activations"' or 'residual = "weighted"')
    end
    local list = members.open(what, net, { a, b }, o)
    local maps = (how.mode == "weights" and by_weights or by_activations)(list, how)
    local same = true
    for c, class in pairs(list[1].layout.classes) do same = same and class.size == list[2].layout.classes[c].size end
    local p = map.new { net = list[1].net, layout = list[2].layout, maps = maps, method = "ot" }
    if same then return map.finish(p, a, b, o) end
    if o.check ~= false and (o.data ~= nil or list[1].net.input) then p.change = relative(list, p, how) end
    return p
  end

  define(what, "align.ot(net or {net_a, net_b}, a, b, {mode = \"weights\", reg =, ground = \"euclidean\", "
    .. "marginals = \"uniform\", residual = \"joint\", readers = \"mean\", data =, site = \"pre\", from = \"all\", "
    .. "batch =, examples =, pin =, free =, check = true}) -> alignment",
    "Optimal transport of the features of b to those of a, group by group in order of the network (Singh, Jaggi 2020, "
    .. "arXiv:1910.05653): p:apply(b) has the shapes of a and is close to it, so that merge.linear { a, p:apply(b) } "
    .. "is the fusion. The networks may differ in their widths: net stands for both, their widths come from the "
    .. "tensors, or give a list of two. Biases and norms move with their group. Exact plans between equal widths with "
    .. "uniform marginals are permutations, and p changes nothing that b computes; all others are soft maps: p.exact "
    .. "is false, and p.change says how far outputs move. Heads of attention and what is inside them are carried one "
    .. "to one, solved together, with signs where the group allows them.\n"
    .. "  mode: \"weights\": features are what writes them, inputs carried already; \"activations\": their values on "
    .. "data, before the activation (site = \"pre\") or where the next part reads them (\"post\")\n"
    .. "  reg: entropic plans (Sinkhorn) of this strength, in units of the cost; left out: exact plans\n"
    .. "  ground: the cost between features: \"euclidean\" distance, \"squared\", or one minus the \"cosine\"\n"
    .. "  marginals: how much a feature weighs: all the same, or \"importance\": in proportion to its norm\n"
    .. "  residual: streams that several parts write get one map (Imfeld et al. 2023, arXiv:2310.05719): \"joint\": "
    .. "the plan for all that is written to it together; \"mean\" of the parts' plans, \"weighted\" by the root mean "
    .. "squares of what they put out (needs data), that of the \"first\" part, or \"identity\"\n"
    .. "  readers: what reads b's features: \"mean\" is the paper's form, smaller by the quotient of widths; \"sum\" "
    .. "keeps what is computed where features are alike. The same where widths and marginals are",
    "local net = nn.mlp { 4, 16, 3 }\nlocal a, b = net:init { seed = 1 }, nn.mlp { 4, 24, 3 }:init { seed = 2 }\n"
    .. "local p = align.ot(net, a, b)\n"
    .. "print(p.exact, merge.linear { a, p:apply(b) }[\"fc1.weight\"].shape)\n-- > false\t[16, 4]", ot)
end
