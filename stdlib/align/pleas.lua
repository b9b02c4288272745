-- SPDX-License-Identifier: Apache-2.0
-- PLeaS (Nasery et al. 2024, arXiv:2407.02447): features of two networks are matched; the pairs that are least alike
-- stay apart, so that the merged network is somewhat wider; then each layer's weights are fitted to what both networks
-- make of the merged features. A partition says it all: merged and separate blocks of every tensor are those of
-- align.members. The fit is least squares with a closed form, in each layer by itself; weights between a feature of
-- one network and one of the other stay zero.
return function(define, check, core)
  local map = require "align.map"(core)
  local members = require "align.members"(core)
  local features = require "align.features"(core)
  local over = require "probe.over"(core)
  local net_of = require "nn.net"
  local columns = require "probe.record".columns
  local summary = require "nn.summary"
  local told = require "nn.told"
  local what = "align.pleas"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- ---- pairs ----

  -- Matched pairs of a class, the least alike first: { {i of a, j of b, score}, … }.
  local function pairs_of(list, numbers, correlation)
    local c
    for _, k in ipairs(numbers) do
      local one = correlation(k, 1, 2)
      c = c and c + one or one
    end
    c = c / #numbers
    local index, out = align.assignment(c, { maximise = true }):totable(), {}
    for i, j in ipairs(index) do
      if j > 0 then out[#out + 1] = { i, j, c[{ i, j }] } end
    end
    table.sort(out, function(x, y) return x[3] < y[3] or x[3] == y[3] and x[1] < y[1] end)
    return out
  end

  -- The groups of all features where the first `apart` pairs are not merged: merged and a's own in a's order, then b's.
  local function partition(row, apart)
    local n, group = row.sizes[1], {}
    for i = 1, n do group[i] = i end
    for k = apart + 1, #row.pairs do group[n + row.pairs[k][2]] = row.pairs[k][1] end
    for j = 1, row.sizes[2] do
      if not group[row.sizes[1] + j] then
        n = n + 1
        group[row.sizes[1] + j] = n
      end
    end
    return tensor(group, { dtype = "i64" }), n
  end

  -- ---- how many stay apart ----

  local function by_ratio(rows, ratio)
    local names, each = {}, core.kind(ratio) == "table"
    for _, r in ipairs(rows) do
      local own = ratio
      names[r.group] = true
      if each then own = ratio[r.group] or 0 end
      if type(own) ~= "number" or not (own >= 0 and own <= 1) then
        fail("ratio of %s = %s; expected 0 … 1", r.group, tostring(own))
      end
      r.apart = math.floor(own * #r.pairs + 0.5)
    end
    for name in pairs(each and ratio or {}) do
      if not names[name] then
        local near = require "nearest"(tostring(name), names)
        fail("ratio: no group is called %s%s", tostring(name), near and ("; did you mean %s?"):format(near) or "")
      end
    end
  end

  -- The products of a: { { cost =, classes = { id, … } }, … }, and what all of a costs.
  local function products(list, plain)
    local net, by_path, out, all = list[1].net, {}, {}, 0
    if not net.input then fail "flops: what the network takes is not known; give input = {…} to the network" end
    local seen, why = summary.traced(net, { 1, table.unpack(net.input) })
    if not seen then fail("flops: %s", tostring(why)) end
    for _, t in ipairs(net_of.structure(net).tensors) do
      local about, classes = list[1].layout.tensors[t.name], {}
      for _, segments in ipairs(#t.shape > 1 and about.axes or {}) do
        for _, s in ipairs(segments) do
          for _, f in ipairs(s) do
            if f.class and plain(list[1].layout.classes[f.class]) then classes[#classes + 1] = f.class end
          end
        end
      end
      by_path[t.path] = #t.shape > 1 and classes or by_path[t.path]
    end
    for path, s in pairs(seen) do
      all = all + s.cost
      if s.cost > 0 then out[#out + 1] = { path = path, cost = s.cost, classes = by_path[path] or {} } end
    end
    table.sort(out, function(x, y) return x.path < y.path end)
    return out, all
  end

  local function width(r) return math.max(table.unpack(r.sizes)) + r.apart end

  local function cost_of(list_of, by)
    local sum = 0
    for _, p in ipairs(list_of) do
      local own = p.cost
      for _, c in ipairs(p.classes) do
        if by[c] then own = own * width(by[c]) / by[c].sizes[1] end
      end
      sum = sum + own
    end
    return sum
  end

  -- Pairs are taken apart one by one, where 1 - score, as a share of the class, is largest for the operations it costs,
  -- until no more fit. What the paper solves as a quadratic programme with one gain for each class.
  local function by_budget(rows, list, plain, flops)
    local parts, whole = products(list, plain)
    local by = {}
    for _, r in ipairs(rows) do by[r.id], r.apart = r, 0 end
    local left = flops * whole - cost_of(parts, by)
    if left < 0 then fail("flops = %g is less than the merged network needs", flops) end
    local function price(r)
      local sum = 0
      for _, p in ipairs(parts) do
        local times, own = 0, p.cost
        for _, c in ipairs(p.classes) do
          times = times + (c == r.id and 1 or 0)
          if by[c] then own = own * width(by[c]) / by[c].sizes[1] end
        end
        sum = sum + own * ((1 + 1 / width(r)) ^ times - 1)
      end
      return sum
    end
    while true do
      local best, worth, least
      for _, r in ipairs(rows) do
        local next = r.pairs[r.apart + 1]
        local p = next and price(r)
        if next and p <= left then
          local v = (1 - next[3]) / #r.pairs / math.max(p, 1e-30)
          if not worth or v > worth then best, worth, least = r, v, p end
        end
      end
      if not best or best.pairs[best.apart + 1][3] >= 1 then return end
      best.apart, left = best.apart + 1, left - least
    end
  end

  -- ---- least squares ----

  -- The parts whose weights are fitted: { {net =, path =, weight =, bias = or nil}, … }.
  local function parts_of(list)
    local out = {}
    net_of.walk(list[1].net, function(n, path, at)
      if n.kind == "linear" and not n.transposed or n.kind == "conv2d" and n.how.groups == 1 then
        out[#out + 1] = { path = path, weight = at .. "weight", bias = n.declared.bias and at .. "bias" }
      end
    end)
    return out
  end

  -- Over the data, the sums z' z and y' z of each part: z what the members show to it, merged, and a one for the bias;
  -- y what they make of it, merged.
  local function sums_of(parts, list, alignments, o)
    local joined, sums = {}, {}
    for _, p in ipairs(parts) do
      local _, merge_in = members.axis(list, alignments, p.weight, 2)
      local _, merge_out = members.axis(list, alignments, p.weight, 1)
      joined[p.path] = { part = p, z = merge_in, y = merge_out }
    end
    features.batches(what, o.data, { batch = o.batch, examples = o.examples }, function(b)
      local seen = {}
      for i, m in ipairs(list) do
        net_of.run(m.net, m.theta, b, { mode = "eval", watch = function(n, path, x, y)
          if joined[path] and n.weights[1] then
            local rows, count = over.rows(n, x)
            local w = n.weights[1].shape
            seen[path] = seen[path] or {}
            seen[path][i] = { x = rows:reshape { count, w[2], rows.shape[2] // w[2] }, y = y:reshape { count, w[1] } }
          end
        end })
      end
      for path, v in pairs(seen) do
        local j = joined[path]
        local z = j.z({ v[1].x, v[2].x }, 2):to "f64"
        local y = j.y({ v[1].y, v[2].y }, 2):to "f64"
        local count = z.shape[1]
        z = z:reshape { count, z.shape[2] * z.shape[3] }
        if j.part.bias then z = tensor.cat({ z, tensor.ones({ count, 1 }, { dtype = "f64" }) }, 2) end
        local g, h = z:t():matmul(z), y:t():matmul(z)
        local s = sums[path]
        sums[path] = s and { g = s.g + g, h = s.h + h } or { g = g, h = h }
      end
    end)
    return sums
  end

  -- Positions (from 1) where the flags of a list are true, and those of each in that list; 0: not in it.
  local function chosen(flags)
    local at, place = {}, {}
    for k, yes in ipairs(flags) do
      if yes then at[#at + 1] = k end
      place[k] = yes and #at or 0
    end
    return at, place
  end

  -- The change of w [out, in] that takes the squares to their least, from where they are: in directions that the data
  -- do not show, nothing changes.
  local function corrected(w, s, allowed, o)
    local n, out = s.g.shape[1], w
    for _, rule in ipairs(allowed) do
      local at, place = chosen(rule.columns)
      local rows, back = chosen(rule.rows)
      if #rows > 0 and #at > 0 then
        local own, cols = tensor(rows, { dtype = "i64" }), tensor(at, { dtype = "i64" })
        local rest = (s.h - w:matmul(s.g)):index_select(1, own):index_select(2, cols)
        local g = s.g:index_select(1, cols):index_select(2, cols)
        local eye = tensor.eye(#at, { dtype = "f64" })
        local trace = (g * eye):sum()
        if trace > 0 then
          local step = (g + eye * (o.ridge * trace / #at)):solve(rest:t()):t()
          step = tensor.cat({ step, tensor.zeros({ #rows, 1 }, { dtype = "f64" }) }, 2)
          step = tensor.cat({ step, tensor.zeros({ 1, #at + 1 }, { dtype = "f64" }) }, 1)
          for k = 1, n do place[k] = place[k] > 0 and place[k] or #at + 1 end
          for k = 1, w.shape[1] do back[k] = back[k] > 0 and back[k] or #rows + 1 end
          out = out + step:index_select(1, tensor(back, { dtype = "i64" }))
            :index_select(2, tensor(place, { dtype = "i64" }))
        end
      end
    end
    return out
  end

  -- Which weights of a part may differ from zero: a feature of one network alone does not read one of the other alone.
  local function rules_of(p, list, alignments, taps)
    local into, out = members.axis(list, alignments, p.weight, 2), members.axis(list, alignments, p.weight, 1)
    local function has(weights, i)
      local t = weights[i]:gt(0):to("i64"):totable()
      return function(k) return t[k] > 0 end
    end
    local a, b, c, d = has(into, 1), has(into, 2), has(out, 1), has(out, 2)
    local function rule(wanted, reads)
      local r = { rows = {}, columns = {} }
      for k = 1, out[1].shape[1] do r.rows[k] = wanted(k) end
      for k = 1, into[1].shape[1] * taps do r.columns[k] = reads((k - 1) // taps + 1) end
      if p.bias then r.columns[#r.columns + 1] = true end
      return r
    end
    return { rule(function(k) return c(k) and not d(k) end, a), rule(function(k) return d(k) and not c(k) end, b),
      rule(function(k) return c(k) and d(k) end, function() return true end) }
  end

  -- Parts together whose sums are not too many numbers at once.
  local function shares_of(parts, values)
    local out, room = { {} }, 0
    for _, p in ipairs(parts) do
      local w = values[p.weight]
      local d = w:numel() // w.shape[1] + 1
      if room + d * d > 1 << 24 and #out[#out] > 0 then out[#out + 1], room = {}, 0 end
      room = room + d * d
      table.insert(out[#out], p)
    end
    return out
  end

  local function fitted(list, alignments, values, o)
    for _, parts in ipairs(shares_of(parts_of(list), values)) do
      local sums = sums_of(parts, list, alignments, o)
      for _, p in ipairs(parts) do
        local w = values[p.weight]
        local shape, rows = w.shape, w.shape[1]
        local wide = w:numel() // rows
        local flat = w:to("f64"):reshape { rows, wide }
        if p.bias then flat = tensor.cat({ flat, values[p.bias]:to("f64"):reshape { rows, 1 } }, 2) end
        if sums[p.path] then
          flat = corrected(flat, sums[p.path], rules_of(p, list, alignments, wide // shape[2]), o)
          values[p.weight] = flat[{ {}, { 1, wide } }]:to(w.dtype):reshape(shape):clone()
          if p.bias then values[p.bias] = flat[{ {}, wide + 1 }]:to(w.dtype):clone() end
        end
      end
    end
    return values
  end

  -- ---- what scripts get ----

  local methods = {}
  local Pleas = { __name = "pleas", __index = methods }

  function Pleas.__tostring(z)
    local rows = {}
    for i, r in ipairs(z.groups) do
      rows[i] = { r.group, tostring(r.sizes[1]), tostring(r.sizes[2]), tostring(r.size), tostring(r.merged),
        r.score and ("%.3f"):format(r.score) or "-" }
    end
    return table.concat({ ("partial merge of 2 models: %d groups"):format(#z.groups),
      columns({ "group", "a", "b", "width", "merged", "score" }, rows) }, "\n")
  end

  methods.merge = told(members.merge(check, "pleas:merge"))

  local options = { "data", "ratio", "flops", "fit", "ridge", "site", "from", "batch", "examples", "pin", "free" }

  local function read(o)
    if o.data == nil then fail("data = … is needed; labels are not used") end
    if o.ratio ~= nil and o.flops ~= nil then fail("either ratio or flops") end
    local ridge = o.ridge or 1e-3
    if type(ridge) ~= "number" or ridge <= 0 or ridge ~= ridge then
      fail("ridge = %s; expected a number above 0", tostring(ridge))
    end
    if o.flops ~= nil and not (type(o.flops) == "number" and o.flops >= 1) then
      fail("flops = %s; expected a number, at least 1", tostring(o.flops))
    end
    return { data = o.data, batch = o.batch, examples = o.examples, ridge = ridge }
  end

  local function pleas(net, a, b, o)
    o = o or {}
    check(what, o, options)
    local how = read(o)
    local list = members.open(what, net, { a, b }, o)
    local kept = members.sources(what, list, o.data, o)
    local correlation = #kept[1] > 0 and members.correlations(what, list, kept, o.data, o)
    local of, nested = members.by_class(list, kept[1])
    local maps, rows = members.matched(what, list, kept[1], nested, correlation), {}
    for _, class in ipairs(map.classes(list[1].layout)) do
      if of[class.id] then
        rows[#rows + 1] = { id = class.id, group = class.name, pairs = pairs_of(list, of[class.id], correlation),
          sizes = { class.size, list[2].layout.classes[class.id].size } }
      end
    end
    if #rows == 0 then fail "no group of features can be merged" end
    if o.flops then by_budget(rows, list, members.plain(list), o.flops) else by_ratio(rows, o.ratio or 0.5) end
    for _, r in ipairs(rows) do
      local sum = 0.0
      for k = r.apart + 1, #r.pairs do sum = sum + r.pairs[k][3] end
      r.merged = #r.pairs - r.apart
      r.score = r.merged > 0 and sum / r.merged or nil
      r.partition, r.size = partition(r, r.apart)
      for i, m in ipairs(members.maps_of(r.partition, r.sizes, r.size)) do maps[i][r.id] = m end
    end
    local z = { list = list, groups = rows, maps = {} }
    for i, m in ipairs(list) do
      z.maps[i] = map.new { net = m.net, layout = m.layout, maps = maps[i], method = "pleas" }
    end
    z.net, z.values = members.whole(what, list, z.maps)
    if o.fit ~= false then z.values = fitted(list, z.maps, z.values, how) end
    return setmetatable(z, Pleas)
  end

  define(what, "align.pleas(net or {net_a, net_b}, a, b, {data =, ratio = 0.5, flops =, fit = true, ridge = 1e-3, "
    .. "site = \"post\", from = \"all\", batch = 256, examples =, pin =, free =}) -> partial merge",
    "PLeaS (Nasery et al. 2024, arXiv:2407.02447): the features of two networks are matched by their correlation over "
    .. "data; pairs that are alike are merged, the others stay apart, which makes the merged network wider; then the "
    .. "weights of each linear map and convolution are fitted, by least squares in closed form, so that they take the "
    .. "merged features to what the two networks make of theirs, merged. z:merge {bn =, batch =} is the model, z.net "
    .. "its network; print(z) shows the groups. With ratio 1 it computes the mean of both outputs exactly (but for "
    .. "layer norms and attention, which see all features at once); with 0 and fit = false it is the mean after "
    .. "align.activations. Heads of attention are matched and averaged, not widened. The networks may differ in their "
    .. "widths, as in align.zip; features without a partner stay apart.\n"
    .. "  ratio: the share of pairs that stay apart, the least alike: a number, or {[group] = number}, others 0\n"
    .. "  flops: in the place of ratio: what z.net may cost at most, as a multiple of a. Pairs are taken apart where "
    .. "1 - correlation, as a share of the group, is largest for its cost. Zero blocks count as they are computed\n"
    .. "  fit: false keeps the assembled weights. ridge: how strongly the fit holds to them, in units of the mean "
    .. "square of the features\n"
    .. "  site, from: where features are looked at, as in align.activations. pin, free: as in align.groups",
    "local net = nn.mlp { 4, 16, 3 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local x = tensor.normal({ 100, 4 }, 3)\nlocal z = align.pleas(net, a, b, { data = { x = x }, ratio = 1 })\n"
    .. "local y = z.net(z:merge(), x)\n"
    .. "print(z.net:params()[1].shape, ((net(a, x) + net(b, x)) / 2 - y):abs():max() < 1e-5)\n-- > [32, 4]\ttrue",
    pleas)

  define("pleas:merge", "z:merge {bn =, batch = 256} -> model",
    "The partially merged model, for the network z.net. bn: data over which running statistics of batch norms are made "
    .. "anew (batch: examples at a time).",
    "local net = nn.mlp { 4, 16, 3 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local z = align.pleas(net, a, b, { data = { x = tensor.normal({ 100, 4 }, 3) }, ratio = 0.25 })\n"
    .. "print(z:merge()[\"fc1.weight\"].shape)\n-- > [20, 4]", members.merge(check, "pleas:merge"))
end
