-- SPDX-License-Identifier: Apache-2.0
-- What the agreement of two sets of weights, Σ <A, pi(B)> over all tensors, is made of from the side of some classes.
-- Classes that depend on each other (heads and what is inside them) are one unit. Wherever factors of a unit stand in
-- an axis there is a term: with all other axes of B moved already, what the term adds is Σ_j S[j, k(j)], where
-- S[j, k] is the inner product of what A has at place j of those factors and what B has at place k.
return function(core)
  local map = require "align.map"(core)
  local terms = {}

  -- ---- units ----

  -- { { classes = { id, … }, moving = { [id] = true } }, … } in order of the network. moving: function(class) -> bool.
  function terms.units(layout, moving)
    local root, order, by, list = {}, map.classes(layout), {}, {}
    local function find(c)
      while root[c] ~= c do c = root[c] end
      return c
    end
    for _, class in ipairs(order) do root[class.id] = class.id end
    for _, class in ipairs(order) do
      for _, c in ipairs(class.under or {}) do root[find(class.id)] = find(c) end
    end
    for _, class in ipairs(order) do
      local r = find(class.id)
      if not by[r] then
        by[r] = { classes = {}, has = {}, moving = {}, terms = {} }
        list[#list + 1] = by[r]
      end
      local unit = by[r]
      unit.classes[#unit.classes + 1] = class.id
      unit.has[class.id] = true
      if moving(class) then unit.moving[class.id], unit.moves = true, true end
    end
    local kept = {}
    for _, unit in ipairs(list) do kept[#kept + 1] = unit.moves and unit or nil end
    return kept, list
  end

  -- ---- terms ----

  local function size_of(list)
    local n = 1
    for _, f in ipairs(list) do n = n * f.size end
    return n
  end

  -- The term of a unit in one segment: which factors are its own, what the rows of its matrix are.
  local function term_of(unit, name, about, axis, segment)
    local term = { unit = unit, name = name, axis = axis, segment = segment, shape = about.shape, own = {}, others = {},
      classes = {}, sizes = {}, parts = {} }
    for k, f in ipairs(segment) do
      local list = f.class and unit.has[f.class] and term.own or term.others
      list[#list + 1] = k
    end
    if #term.own == 0 then return nil end
    for i, k in ipairs(term.own) do term.classes[i], term.sizes[i] = segment[k].class, segment[k].size end
    for d = 1, #about.shape do
      if d ~= axis then term.parts[#term.parts + 1] = { size = about.shape[d], segments = about.axes[d] or {} } end
    end
    if #term.others > 0 then
      local rest = { offset = 0, dual = segment.dual }
      for i, k in ipairs(term.others) do rest[i] = segment[k] end
      rest.size = size_of(rest)
      term.parts[#term.parts + 1] = { size = rest.size, segments = { rest } }
    end
    term.rows = size_of(term.parts)
    local places = { offset = 0, dual = segment.dual }
    for i, k in ipairs(term.own) do places[i] = segment[k] end
    places.size = size_of(places)
    term.places, term.n, term.key = { places }, places.size, table.concat(term.classes, ".")
    term.reads = {}
    for _, part in ipairs(term.parts) do
      for _, s in ipairs(part.segments) do
        for _, f in ipairs(s) do
          if f.class then term.reads[f.class] = true end
        end
      end
    end
    for _, c in ipairs(unit.classes) do
      if term.reads[c] then unit.twice, term.twice = true, true end
    end
    return term
  end

  -- Puts into each unit its terms, over the tensors for which `counts(name)`.
  function terms.find(layout, units, counts)
    local names = {}
    for name in pairs(layout.tensors) do
      if counts(name) then names[#names + 1] = name end
    end
    table.sort(names)
    for _, unit in ipairs(units) do
      unit.tensors = {}
      for _, name in ipairs(names) do
        local about, any = layout.tensors[name], false
        for axis = 1, #about.shape do
          for _, segment in ipairs(about.axes[axis] or {}) do
            local term = term_of(unit, name, about, axis, segment)
            if term then
              unit.terms[#unit.terms + 1], any = term, true
            end
          end
        end
        if any then unit.tensors[#unit.tensors + 1] = name end
      end
    end
    return names
  end

  -- How a tensor's dimensions, with the axis of the term split into factors, stand in its matrix.
  local function splitting(term)
    local shape, order, own = {}, {}, nil
    for d = 1, #term.shape do
      if d == term.axis then
        own = #shape
        for _, f in ipairs(term.segment) do shape[#shape + 1] = f.size end
      else
        shape[#shape + 1] = term.shape[d]
        order[#order + 1] = #shape
      end
    end
    for _, k in ipairs(term.others) do order[#order + 1] = own + k end
    for _, k in ipairs(term.own) do order[#order + 1] = own + k end
    return shape, order
  end

  -- Places first to last (from 1) of the axis of a term.
  local function cut(term, t, first, last)
    local all = {}
    for d = 1, #term.shape do all[d] = {} end
    all[term.axis] = { first, last }
    return t[all]
  end

  -- A tensor as the matrix of a term, [rows, places], contiguous.
  function terms.unfold(term, t)
    if t.dtype ~= "f64" then t = t:to "f32" end
    local segment = term.segment
    if segment.size < term.shape[term.axis] then t = cut(term, t, segment.offset + 1, segment.offset + segment.size) end
    local shape, order = splitting(term)
    if #shape > 1 then t = t:reshape(shape):permute(order) end
    return t:reshape { term.rows, term.n }:clone()
  end

  -- t with the matrix of a term in the place of what terms.unfold takes from it.
  function terms.fold(term, x, t)
    local shape, order = splitting(term)
    local permuted, home, whole = {}, {}, {}
    for i, d in ipairs(order) do permuted[i], home[d] = shape[d], i end
    for d = 1, #term.shape do whole[d] = term.shape[d] end
    local segment, parts = term.segment, {}
    whole[term.axis] = segment.size
    if #shape > 1 then x = x:reshape(permuted):permute(home) end
    x = x:reshape(whole)
    local last, size = segment.offset + segment.size, term.shape[term.axis]
    if segment.offset > 0 then parts[1] = cut(term, t, 1, segment.offset) end
    parts[#parts + 1] = x
    if last < size then parts[#parts + 1] = cut(term, t, last + 1, size) end
    return #parts == 1 and x or tensor.cat(parts, term.axis)
  end

  -- Parts of the rows of a matrix as one list: function(list, of one part) -> list.
  local function over_parts(term, get, none, join)
    local all, before = nil, 1
    for _, part in ipairs(term.parts) do
      local own = get(part)
      if own or all then
        all, own = all or none(before), own or none(part.size)
        all = join(all:reshape { before, 1 }, own:reshape { 1, part.size }, part.size):reshape { before * part.size }
      end
      before = before * part.size
    end
    return all
  end

  -- From which row each row of the matrix is taken by hard maps, [rows], and its factor; nil: as it is.
  function terms.rows_from(term, maps)
    local at = over_parts(term, function(part)
      local index = map.gather(part.segments, maps, part.size)
      return index and index - 1
    end, tensor.arange, function(before, own, size) return before * size + own end)
    local factor = over_parts(term, function(part) return map.factor(part.segments, maps, part.size) end, tensor.ones,
      function(before, own) return before * own end)
    return at and at + 1, factor
  end

  -- What each place of a score [n, n] adds under hard maps, [n].
  function terms.reached(score, places, maps)
    local n = score.shape[1]
    local index, factor = map.gather(places, maps), map.factor(places, maps)
    local v = score:gather(2, (index or tensor.arange(n) + 1):reshape { n, 1 }):reshape { n }
    return factor and v * factor or v
  end

  -- Σ <A, pi(B)> over some tensors, in f64.
  function terms.agreement(layout, a, b, maps, names)
    local total, memo = 0, {}
    for _, name in ipairs(names) do
      local t, u = a[name], b[name]
      total = total + t:dot(map.move(u, layout.tensors[name].axes, maps, memo))
    end
    return total
  end

  return terms
end
