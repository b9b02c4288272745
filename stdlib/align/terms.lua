-- SPDX-License-Identifier: Apache-2.0
-- What the agreement of two sets of weights, Σ <A, pi(B)> over all tensors, is made of from the side of some classes.
-- Classes that depend on each other (heads and what is inside them) are one unit. Wherever factors of a unit stand in
-- an axis there is a term: with all other axes of B moved already, what the term adds is Σ_j S[j, k(j)], where
-- S[j, k] is the inner product of what A has at place j of those factors and what B has at place k.
return function(core)
  local axes = require "align.axis"
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

  -- The term of a unit in one of the segments of an axis: which factors are its own, what the rows of its matrix are.
  local function term_of(unit, name, about, axis, segment)
    local term = { unit = unit, name = name, axis = axis, shape = about.shape, segments = about.axes[axis],
      segment = segment, own = {}, classes = {}, sizes = {}, parts = {} }
    local rest = { offset = 0, dual = segment.dual }
    for k, f in ipairs(segment) do
      if f.class and unit.has[f.class] then term.own[#term.own + 1] = k else rest[#rest + 1] = f end
    end
    if #term.own == 0 then return nil end
    rest.size = size_of(rest)
    for i, k in ipairs(term.own) do term.classes[i], term.sizes[i] = segment[k].class, segment[k].size end
    for d = 1, #about.shape do
      if d ~= axis then
        term.parts[#term.parts + 1] = { size = about.shape[d], segments = about.axes[d] or {} }
      elseif #rest > 0 then
        term.parts[#term.parts + 1] = { size = rest.size, segments = { rest } }
      end
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

  -- A tensor as the matrix of a term, [rows, places], contiguous.
  function terms.unfold(term, t)
    t = t.dtype == "f64" and t or t:to "f32"
    return axes.unfold(t, term.axis, term.segment, term.own):clone()
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
      local index = map.gather(part.segments, maps)
      return index and index - 1
    end, tensor.arange, function(before, own, size) return before * size + own end)
    local factor = over_parts(term, function(part) return map.factor(part.segments, maps) end, tensor.ones,
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
