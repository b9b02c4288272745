-- SPDX-License-Identifier: Apache-2.0
-- What an alignment is: for every class of axes that move together (align.layout) a map of its places and the inverse
-- for those who read them. A hard map is a gather: `index` [instances, n] says from which place (counted from 1) each
-- place is taken, with signs and scales where the class allows them; a soft one is a pair of matrices. A class may
-- depend on others (inside a head under the head): then it has an instance for each combination of the *target's*
-- outer places, and "take place index[o][j] under the outer place that o is taken from" composes and inverts like any
-- permutation. Everything here works on any layout; hard maps move bits and round nothing.
local net_of = require "nn.net"
local axes = require "align.axis"
local recorded_with = require "align.layout".example
local record = require "probe.record"
local told = require "nn.told"
local attempt = require "attempt"

local made

return function(core)
  if made then return made end
  local expect = require "expect"(core.kind)
  local map, methods = {}, {}
  made = map

  local Alignment = { __name = "alignment", __metatable = false, __index = methods }
  local known = setmetatable({}, { __mode = "k" })

  local function fail(text, ...) error(text:format(...), 0) end

  -- ---- weights by name ----

  local floating, moves, matrices = axes.floating, axes.moves, axes.matrices
  map.gather, map.factor, map.axis, map.move, map.matrices = axes.gather, axes.factor, axes.along, axes.move, matrices

  -- name -> tensor, in memory, of a model or a table; with it the names in order and the model.
  function map.values(what, theta)
    local kind, all, order = core.kind(theta), {}, {}
    if kind == "model" then
      theta = theta:load()
      order = theta:names()
      for _, name in ipairs(order) do all[name] = theta:tensor(name) end
      return all, order, theta
    end
    if kind ~= "table" then fail("%s: expected a model or a table of tensors, got %s", what, kind) end
    for name, t in pairs(theta) do
      all[name] = expect.one(what, tostring(name), t, "a tensor")
      order[#order + 1] = expect.one(what, "a name", name, "a text")
    end
    table.sort(order)
    return all, order
  end

  -- Whether a tensor's entries count in scores: floating, and no running statistics.
  function map.counts(layout, net)
    local buffer = {}
    for _, p in ipairs(net and net:params() or {}) do buffer[p.name] = p.buffer end
    return function(name, t) return layout.tensors[name] ~= nil and not buffer[name] and floating[t.dtype] or false end
  end

  -- ---- classes ----

  -- How many instances a class has: one for each combination of the places of those it lies under.
  function map.instances(layout, class)
    local n = 1
    for _, c in ipairs(class.under or {}) do n = n * layout.classes[c].size end
    return n
  end

  -- Classes in order of their ids.
  function map.classes(layout)
    local list = {}
    for _, class in pairs(layout.classes) do list[#list + 1] = class end
    table.sort(list, function(a, b) return a.id < b.id end)
    return list
  end

  local function may_flip(class) return class.kind == "signed" or class.kind == "linear" end
  map.may_flip = may_flip

  -- The instance (from 1) that each instance of a class is taken from; nil: the same.
  local function instances_from(layout, class, maps)
    local under = class.under or {}
    if #under == 0 then return nil end
    local segment = { offset = 0, size = map.instances(layout, class) }
    for i, c in ipairs(under) do segment[i] = { size = layout.classes[c].size, class = c } end
    return map.gather({ segment }, maps)
  end

  -- function(class) -> bool of o.groups: names or patterns.
  function map.chosen(what, layout, groups)
    if groups == nil then return function() return true end end
    local names, all = {}, {}
    for _, class in ipairs(map.classes(layout)) do all[class.name] = tensor.zeros { 1 } end
    local list = model.new(all)
    for _, pattern in ipairs(type(groups) == "table" and groups or { groups }) do
      expect.one(what, "groups", pattern, "a text")
      local hits = all[pattern] and { pattern } or list:names(pattern)
      if #hits == 0 then
        local near = require "nearest"(pattern, all)
        error(("%s: groups: no group is called '%s'%s"):format(what, pattern,
          near and ("; did you mean '%s'?"):format(near) or ""), 0)
      end
      for _, name in ipairs(hits) do names[name] = true end
    end
    return function(class) return names[class.name] == true end
  end

  -- ---- making ----

  local function place_map(layout, class, m)
    local n, inst = class.size, map.instances(layout, class)
    local out = { under = class.under or {}, index = m.index, sign = m.sign, scale = m.scale, forward = m.forward,
      back = m.back }
    if m.index then
      out.index = m.index:to("i64"):reshape { inst, n }
      if m.sign then out.sign = m.sign:reshape { inst, n } end
      if m.scale then out.scale = m.scale:reshape { inst, n } end
    elseif m.forward and m.back then
      if #m.forward.shape == 2 then out.forward, out.back = m.forward:unsqueeze(1), m.back:unsqueeze(1) end
    else
      fail("align: the map of class %d (%s) has neither index nor forward and back", class.id, tostring(class.name))
    end
    return out
  end

  -- { net =, layout =, maps = { [class id] = map }, method =, info = {…} } -> alignment
  function map.new(o)
    local p = { net = o.net, layout = o.layout, method = o.method or "map", info = o.info or {}, maps = {},
      exact = true }
    for c, m in pairs(o.maps) do
      local class = o.layout.classes[c] or fail("align: the layout has no class %s", tostring(c))
      p.maps[c] = place_map(o.layout, class, m)
      p.exact = p.exact and m.index ~= nil
    end
    for name, v in pairs(p.info) do
      if p[name] == nil then p[name] = v end
    end
    known[p] = true
    return setmetatable(p, Alignment)
  end

  function map.is(x) return known[x] == true end

  local function identity_index(layout, class)
    local row = (tensor.arange(class.size) + 1):reshape { 1, class.size }
    return row:expand { map.instances(layout, class), class.size }:clone()
  end
  map.identity_index = identity_index

  function map.identity(net, layout)
    local maps = {}
    for c, class in pairs(layout.classes) do maps[c] = { index = identity_index(layout, class) } end
    return map.new { net = net, layout = layout, maps = maps, method = "identity" }
  end

  -- One random member of a class's group.
  function map.random_class(layout, class, seed)
    local shape = { map.instances(layout, class), class.size }
    local m = { index = tensor.rand(shape, seed):argsort(2) }
    if may_flip(class) then m.sign = 1 - 2 * tensor.bernoulli(shape, 0.5, seed + 1):to "f32" end
    return m
  end

  -- A random member of the group: permutations, and signs where the class allows them.
  function map.random(net, layout, seed)
    local maps = {}
    for c, class in pairs(layout.classes) do
      maps[c] = map.random_class(layout, class, (seed or 0) * 1000003 + 2 * c)
    end
    return map.new { net = net, layout = layout, maps = maps, method = "random" }
  end

  -- ---- the group ----

  local function both(a, b, f)
    if not a then return b end
    return b and f(a, b) or a
  end
  local function times(a, b) return a * b end

  local function composed(layout, class, p, q)
    local m, w = p.maps[class.id], q.maps[class.id]
    if not m and not w then return nil end
    local from = instances_from(layout, class, p.maps)
    local function moved(t) return t and from and t:index_select(1, from) or t end
    if not m then
      return { index = moved(w.index), sign = moved(w.sign), scale = moved(w.scale), forward = moved(w.forward),
        back = moved(w.back) }
    end
    if not w then return m end
    if m.index and w.index then
      local function at(t) return t and moved(t):gather(2, m.index) end
      return { index = at(w.index), sign = both(m.sign, at(w.sign), times), scale = both(m.scale, at(w.scale), times) }
    end
    local pf, pb = matrices(m)
    local qf, qb = matrices(w)
    return { forward = pf:matmul(moved(qf)), back = moved(qb):matmul(pb) }
  end

  local function soft_outer(p)
    for c, class in pairs(p.layout.classes) do
      for _, o in ipairs(class.under or {}) do
        if p.maps[c] and p.maps[o] and not p.maps[o].index then return class end
      end
    end
  end

  local function each_class(p, f)
    local class = soft_outer(p)
    if class then
      fail("align: %s lies inside a class whose map is soft; such an alignment is neither composed nor inverted",
        tostring(class.name))
    end
    local maps = {}
    for c, own in pairs(p.layout.classes) do maps[c] = f(own) end
    return maps
  end

  -- (p * q):apply(m) is p:apply(q:apply(m)).
  function methods.mul(p, q)
    if not known[p] or not known[q] then
      fail "alignment:mul: alignments are multiplied with alignments only; p:apply(m) moves a model"
    end
    if p.layout ~= q.layout then
      for c, class in pairs(p.layout.classes) do
        local other = q.layout.classes[c]
        if not other or other.size ~= class.size then
          fail("alignment:mul: these two belong to different networks (%s)", tostring(class.name))
        end
      end
    end
    return map.new { net = p.net or q.net, layout = p.layout, method = p.method .. " * " .. q.method,
      maps = each_class(p, function(class) return composed(p.layout, class, p, q) end) }
  end

  -- p:inverse() * p moves nothing.
  function methods.inverse(p)
    local function one(class)
      local m = p.maps[class.id]
      if not m then return nil end
      local from = instances_from(p.layout, class, p.maps)
      local to = from and from:argsort()
      local function moved(t) return t and to and t:index_select(1, to) or t end
      if not m.index then return { forward = moved(m.back), back = moved(m.forward) } end
      local back = m.index:argsort(2)
      local scale = m.scale and 1 / m.scale:gather(2, back)
      return { index = moved(back), sign = moved(m.sign and m.sign:gather(2, back)), scale = moved(scale) }
    end
    return map.new { net = p.net, layout = p.layout, method = "inverse of " .. p.method, maps = each_class(p, one) }
  end

  -- ---- applying ----

  -- name -> the name whose axes a tensor has: its own, or that of the one it is tied to.
  local function partners(m)
    local of = {}
    for _, tie in ipairs(m and m:structure().tied or {}) do of[tie.kept], of[tie.other] = tie.other, tie.kept end
    return of
  end

  local function same_shape(a, b)
    a, b = a.shape, b.shape
    if #a ~= #b then return false end
    for d = 1, #a do
      if a[d] ~= b[d] then return false end
    end
    return true
  end

  function methods.apply(p, theta)
    local all, order, m = map.values("alignment:apply", theta)
    local out, memo, tied, same = {}, {}, partners(m), true
    for _, name in ipairs(order) do
      local about = p.layout.tensors[name] or p.layout.tensors[tied[name] or false]
      local t = all[name]
      if about and #t.shape == #about.shape then
        for axis, segments in pairs(about.axes) do
          if #segments > 0 and moves(segments, p.maps) and t.shape[axis] ~= about.shape[axis] then
            fail("alignment:apply: %s has the shape %s, the alignment is for %s", name, net_of.shape_text(t.shape),
              net_of.shape_text(about.shape))
          end
        end
        out[name] = map.move(t, about.axes, p.maps, memo)
        same = same and same_shape(out[name], t)
      elseif about and #about.shape > 0 then
        fail("alignment:apply: %s has the shape %s, the alignment is for %s", name, net_of.shape_text(t.shape),
          net_of.shape_text(about.shape))
      else
        out[name] = t
      end
    end
    if not m then return out end
    if same then return core.with_values(m, out) end
    local list = {}
    for i, name in ipairs(order) do list[i] = { name, out[name] } end
    return model.new(list, { mass = m:mass() })
  end

  -- ---- the check against the network ----

  -- Inputs to try a network with: of the data, or random ones of the kind it takes, or was recorded with.
  function map.inputs(what, net, data, most)
    if data ~= nil then
      local x = core.kind(data) == "tensor" and data or type(data) == "table" and data.x or nil
      if core.kind(x) ~= "tensor" then fail("%s: expected data, got %s", what, core.kind(data)) end
      if type(data) == "table" and getmetatable(data) == nil and not most then return data end
      local n = x.shape[1]
      if most and n > most then x = x[{ { 1, most } }] end
      return x
    end
    if not net.input then
      local x = recorded_with(net)
      if x == nil then
        fail("%s: what the network takes is not known; give data = …, or input = {…} to the network", what)
      end
      return core.kind(x) == "tensor" and floating[x.dtype] and tensor.randn(x.shape, 1) or x
    end
    if net.tokens then return tensor.randint(0, net.tokens, { 2, table.unpack(net.input) }, 1) end
    return tensor.randn({ 4, table.unpack(net.input) }, 1)
  end

  -- An input for tracing a network that does not say what it takes; nil where that is not needed.
  function map.example(what, net, data)
    if not net_of.is(net) or net.input or data == nil then return nil end
    return map.inputs(what, net, data, 1)
  end

  local function relative(y, z)
    local size = y:abs():max()
    local off = (y - z):abs():max()
    if off ~= off or size ~= size then return math.huge end
    return off == 0 and 0 or off / math.max(size, 1e-30)
  end

  local function chunked(x, f)
    local n, size = x.shape[1], 256
    for first = 1, n, size do f(x[{ { first, math.min(first + size - 1, n) } }]) end
  end

  -- The first part (in order of the calls) whose output is not the old one, moved.
  local function first_apart(p, net, before, after, x)
    local seen, at, found = {}, {}, nil
    net_of.run(net, before, x, { watch = function(_, path, _, y)
      seen[path] = seen[path] or {}
      table.insert(seen[path], y)
    end })
    net_of.run(net, after, x, { watch = function(_, path, _, y)
      at[path] = (at[path] or 0) + 1
      local site = p.layout.sites and p.layout.sites[path]
      local along = site and site.output and site.output.axes
      local old = seen[path] and seen[path][at[path]]
      if found or path == "" or not along or not old then return end
      local ok, want = attempt(map.move, old, along, p.maps)
      if ok and relative(want, y) > 1e-4 then found = path end
    end })
    return found
  end

  -- The largest change of the network's outputs on the data, relative to the largest output.
  function methods.check(p, net, theta, data)
    net = net or p.net
    if not net_of.is(net) then fail("alignment:check: expected a network, got %s", core.kind(net)) end
    local all, _, m = map.values("alignment:check", theta)
    local before, after = m or all, p:apply(m or all)
    local x, worst = map.inputs("alignment:check", net, data), 0
    local function compare(part)
      worst = math.max(worst, relative((net_of.run(net, before, part, {})), (net_of.run(net, after, part, {}))))
    end
    if core.kind(x) == "tensor" then chunked(x, compare) else compare(x) end
    return worst
  end

  -- ---- how well the two agree ----

  local function cosine(s) return s.ab / math.max(math.sqrt(s.aa * s.bb), 1e-300) end

  -- Per class the cosine of a with b before and after, over the tensors that the class lies in.
  local function similarity(p, a, b)
    local va, vb = map.values("align", a), map.values("align", b)
    local counts, memo, sums = map.counts(p.layout, p.net), {}, {}
    for name, t in pairs(va) do
      local about, u = p.layout.tensors[name], vb[name]
      if about and u and counts(name, t) and same_shape(t, u) then
        local w = map.move(u, about.axes, p.maps, memo)
        if same_shape(t, w) then
          local s = { aa = t:dot(t), bb = u:dot(u), ww = w:dot(w), ab = t:dot(u), aw = t:dot(w) }
          local own = {}
          for _, segments in pairs(about.axes) do
            for _, segment in ipairs(segments) do
              for _, f in ipairs(segment) do
                if f.class then own[f.class] = true end
              end
            end
          end
          for c in pairs(own) do
            sums[c] = sums[c] or { aa = 0, bb = 0, ww = 0, ab = 0, aw = 0 }
            for field, v in pairs(s) do sums[c][field] = sums[c][field] + v end
          end
        end
      end
    end
    local out = {}
    for c, s in pairs(sums) do
      out[c] = { before = cosine(s), after = cosine { ab = s.aw, aa = s.aa, bb = s.ww } }
    end
    return out
  end

  -- { {group, size, kind, instances, moved, before, after}, … }
  function methods.agreement(p)
    local list = {}
    for _, class in ipairs(map.classes(p.layout)) do
      local m, moved = p.maps[class.id], nil
      if not m then
        moved = 0.0
      elseif m.index then
        local stays = m.index:eq(tensor.arange(class.size) + 1)
        if m.sign then stays = stays:logical_and(m.sign:gt(0)) end
        moved = 1 - stays:to("i64"):sum() / stays:numel()
      end
      local s = p.similarity and p.similarity[class.id] or {}
      list[#list + 1] = { group = class.name or tostring(class.id), size = class.size, kind = class.kind,
        instances = map.instances(p.layout, class), moved = moved, before = s.before, after = s.after }
    end
    return list
  end

  local ROWS = 40 -- of the printed table

  function Alignment.__tostring(p)
    local all = p:agreement()
    local head, rows = { "group", "size", "kind", "moved", "before", "after" }, {}
    local function share(v) return v and ("%.3f"):format(v) or "-" end
    for i, r in ipairs(all) do
      if i > ROWS then break end
      rows[i] = { r.group, (r.instances > 1 and r.instances .. " x " or "") .. r.size, tostring(r.kind),
        r.moved and ("%.0f%%"):format(100 * r.moved) or "soft", share(r.before), share(r.after) }
    end
    local said = { ("alignment by %s: %d groups"):format(p.method, #all), record.columns(head, rows) }
    if #all > ROWS then said[#said + 1] = ("… and %d more groups (p:agreement() has all)"):format(#all - ROWS) end
    if p.change then said[#said + 1] = ("outputs change by %.1e, relatively"):format(p.change) end
    return table.concat(said, "\n")
  end

  -- ---- the check that every alignment goes through ----

  -- o: check (false: neither compared nor checked), data. An exact one that changes the outputs is an error.
  function map.finish(p, a, b, o)
    o = o or {}
    if o.check == false then return p end
    p.similarity = similarity(p, a, b)
    local x = map.inputs("align." .. p.method, p.net, o.data, 32)
    p.change = p:check(p.net, b, x)
    if p.exact and p.change > 1e-4 then
      local all, _, m = map.values("align", b)
      local before = m or all
      local part = first_apart(p, p.net, before, p:apply(before), x)
      fail("align.%s: the alignment changes what the network computes, by %.1e relatively%s. The groups of this "
        .. "network were not understood, or the pins are wrong; check = false returns it all the same", p.method,
        p.change, part and (" (the first part that differs is %s)"):format(part)
          or o.free and " (free lets what goes in and comes out move)" or "")
    end
    return p
  end

  -- ---- files ----

  local function plain_axes(along)
    local list = {}
    for axis, segments in pairs(along) do
      for _, s in ipairs(segments) do
        local factors = {}
        for i, f in ipairs(s) do factors[i] = { f.size, f.class or 0, axes.is_dual(s, i) or false } end
        list[#list + 1] = { axis = axis, offset = s.offset, size = s.size, dual = s.dual or false, factors = factors }
      end
    end
    table.sort(list, function(x, y) return x.axis < y.axis or x.axis == y.axis and x.offset < y.offset end)
    return list
  end

  local function whole_axes(list, rank)
    local along = {}
    for axis = 1, rank do along[axis] = {} end
    for _, s in ipairs(list) do
      local segment = { offset = s.offset, size = s.size, dual = s.dual }
      for i, f in ipairs(s.factors) do segment[i] = { size = f[1], class = f[2] > 0 and f[2] or nil, dual = f[3] } end
      table.insert(along[s.axis], segment)
    end
    return along
  end

  local fields = { "index", "sign", "scale", "forward", "back" }

  function methods.save(p, path, o)
    if type(path) ~= "string" or not path:find "%.safetensors$" then
      fail("alignment:save: expected the path of a .safetensors file, got %s", tostring(path))
    end
    local about = { kind = "alignment", version = 1, method = p.method, classes = {}, tensors = {} }
    local parts = {}
    for i, class in ipairs(map.classes(p.layout)) do
      about.classes[i] = { id = class.id, name = class.name or "", size = class.size, kind = class.kind,
        under = { table.unpack(class.under or {}) } }
      local m = p.maps[class.id]
      for _, field in ipairs(m and fields or {}) do
        if m[field] then parts[field .. "." .. class.id] = m[field]:clone() end
      end
    end
    for name, t in pairs(p.layout.tensors) do
      about.tensors[#about.tensors + 1] = { name = name, shape = { table.unpack(t.shape) }, axes = plain_axes(t.axes) }
    end
    table.sort(about.tensors, function(x, y) return x.name < y.name end)
    parts.about = require "bytes".of(require "search.journal".text(about))
    model.new(parts):save(path, { overwrite = o and o.overwrite or false })
  end

  function map.load(path)
    local m = model.load(expect.one("align.load", nil, path, "the path of a file"))
    local ok, about = pcall(function()
      return require "json.decode".decode(require "bytes".text(m:tensor "about"))
    end)
    if not ok or type(about) ~= "table" or about.kind ~= "alignment" then
      fail("align.load: %s is not a file of alignment:save", path)
    end
    local layout, maps = { classes = {}, tensors = {} }, {}
    for _, class in ipairs(about.classes) do
      layout.classes[class.id] = class
      local one
      for _, field in ipairs(fields) do
        local name = field .. "." .. class.id
        if #m:names("^" .. field .. "\\." .. class.id .. "$") > 0 then
          one = one or {}
          one[field] = m:tensor(name):clone()
        end
      end
      maps[class.id] = one
    end
    for _, t in ipairs(about.tensors) do
      layout.tensors[t.name] = { shape = t.shape, axes = whole_axes(t.axes, #t.shape) }
    end
    return map.new { layout = layout, maps = maps, method = about.method }
  end

  for name, f in pairs(methods) do methods[name] = told(f) end
  Alignment.__mul = methods.mul
  map.methods = methods

  return map
end
