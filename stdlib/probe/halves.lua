-- SPDX-License-Identifier: Apache-2.0
-- Networks of half the width inside a network: which units of each group of axes (align.layout) are read, where they
-- lie, and how weights are written so that what is computed stays. The trick is that a unit whose readers have zeros
-- for it is free: what makes it may be anything. Every function here takes weights by name and gives new ones; groups
-- are numbers of classes, a set is {[class] = true}, units {[class] = {place, …}} (from 1).
local axes = require "align.axis"

local halves = {}

-- ---- who makes the features of a group, and who reads them ----

local kept = { [true] = setmetatable({}, { __mode = "k" }), [false] = setmetatable({}, { __mode = "k" }) }

-- The axes of a tensor as far as they read features (dual) or make them; other factors stay.
local function side(about, dual)
  local known = kept[dual][about]
  if known then return known end
  local out = {}
  for d, axis in ipairs(about.axes) do
    out[d] = {}
    for s, segment in ipairs(axis) do
      local own = { offset = segment.offset, size = segment.size, dual = dual }
      for k, f in ipairs(segment) do
        local class = f.class
        if class and (axes.is_dual(segment, k) or false) ~= dual then class = nil end
        own[k] = { size = f.size, class = class, dual = dual }
      end
      out[d][s] = own
    end
  end
  kept[dual][about] = out
  return out
end

-- Whether a tensor reads (dual) or makes features of a group in the set (nil: of any).
local function touches(about, dual, set)
  for _, axis in ipairs(side(about, dual)) do
    for _, segment in ipairs(axis) do
      for _, f in ipairs(segment) do
        if f.class and (not set or set[f.class]) then return true end
      end
    end
  end
  return false
end

function halves.makes(about, set) return touches(about, false, set) end

-- The groups in an order such that each comes after those that read it (outputs first), joined where they read each
-- other: { {class, …}, … }; cyclic[k]: whether a list reads itself (residual streams do).
function halves.order(layout)
  local next_of, ids = {}, {}
  for c in pairs(layout.classes) do
    next_of[c] = {}
    ids[#ids + 1] = c
  end
  table.sort(ids)
  for _, about in pairs(layout.tensors) do
    for _, from in ipairs(ids) do
      if touches(about, true, { [from] = true }) then
        for _, to in ipairs(ids) do
          if touches(about, false, { [to] = true }) then next_of[from][to] = true end
        end
      end
    end
  end
  -- Tarjan's strongly connected components come out with what is read last first.
  local index, low, stack, on, out, n = {}, {}, {}, {}, {}, 0
  local function visit(c)
    n = n + 1
    index[c], low[c], on[c] = n, n, true
    stack[#stack + 1] = c
    for _, to in ipairs(ids) do
      if next_of[c][to] then
        if not index[to] then
          visit(to)
          low[c] = math.min(low[c], low[to])
        elseif on[to] then
          low[c] = math.min(low[c], index[to])
        end
      end
    end
    if low[c] == index[c] then
      local group = { cyclic = next_of[c][c] or false }
      repeat
        local last = table.remove(stack)
        on[last] = false
        table.insert(group, 1, last)
      until last == c
      group.cyclic = group.cyclic or #group > 1
      table.sort(group)
      out[#out + 1] = group
    end
  end
  for _, c in ipairs(ids) do
    if not index[c] then visit(c) end
  end
  return out
end

-- ---- maps of places ----

-- Units `to` taken from units `from`, the others from themselves.
local function taken(n, from, to)
  local row = {}
  for i = 1, n do row[i] = i end
  for k, place in ipairs(to) do row[place] = from[k] end
  return { index = tensor({ row }, { dtype = "i64" }), under = {} }
end

-- `value` for the units of a list, `other` for the rest.
local function marked(n, list, value, other)
  local row = {}
  for i = 1, n do row[i] = other + 0.0 end
  for _, place in ipairs(list) do row[place] = value + 0.0 end
  return { sign = tensor { row }, under = {} }
end

local function moved(t, about, dual, maps)
  for d, segments in ipairs(side(about, dual)) do
    local index = axes.gather(segments, maps)
    if index then t = t:index_select(d, index) end
  end
  return t
end

-- The factors along axis d as a tensor that is broadcast; nil: all one.
local function along(t, d, segments, maps)
  local f = axes.factor(segments, maps)
  if not f then return nil end
  local shape = {}
  for k = 1, #t.shape do shape[k] = k == d and t.shape[d] or 1 end
  return f:reshape(shape)
end

-- A tensor whose columns of units are multiplied; 0 gives 0 whatever was there.
local function weighed(t, about, maps)
  for d, segments in ipairs(side(about, true)) do
    local f = along(t, d, segments, maps)
    if f then t = tensor.where(f:ne(0), t * f:to(t.dtype), tensor.zeros_like(t)):to(t.dtype) end
  end
  return t
end

-- `new` where the rows of the given units are, else `old`.
local function rows(old, new, about, classes, units)
  local inside, nowhere = {}, {}
  for c, list in pairs(units) do
    inside[c], nowhere[c] = marked(classes[c].size, list, 1, 0), marked(classes[c].size, {}, 0, 0)
  end
  local mask
  for d, segments in ipairs(side(about, false)) do
    local f = along(old, d, segments, inside)
    if f then
      f = f - along(old, d, segments, nowhere) -- a part of the axis without such a group is none of theirs
      mask = mask and mask * f or f
    end
  end
  return mask and tensor.where(mask:gt(0), new, old):to(old.dtype) or old
end

-- New weights: change(tensor, its axes, name) of those that the layout knows and that `which` holds for.
local function changed(layout, values, which, change)
  local out = {}
  for name, t in pairs(values) do
    local about = layout.tensors[name]
    out[name] = about and which(about) and change(t, about, name) or t
  end
  return out
end

-- ---- steps ----

local function set_of(units)
  local set = {}
  for c in pairs(units) do set[c] = true end
  return set
end

-- Only these units are read, each `gain[class]` times as strongly. which: of what reads them; default: all.
function halves.drop(layout, values, units, gain, which)
  local set, maps = set_of(units), {}
  for c, list in pairs(units) do maps[c] = marked(layout.classes[c].size, list, gain[c], 0) end
  return changed(layout, values, function(about)
    return touches(about, true, set) and (not which or which(about))
  end, function(t, about) return weighed(t, about, maps) end)
end

-- Maps that put `from` in the place of `to`, and masks of what is read: `to` as it is, `units` with their gain.
local function redirected(layout, from, to, units, gain)
  local maps, masks = {}, {}
  for c, list in pairs(to) do
    maps[c] = taken(layout.classes[c].size, from[c], list)
    masks[c] = marked(layout.classes[c].size, list, 1, 0)
  end
  for c, list in pairs(units) do masks[c] = marked(layout.classes[c].size, list, gain[c], 0) end
  return maps, masks
end

-- What makes the units `to` becomes a copy of what makes `from`, reading the copies, and only `units` of the groups
-- there, with their gain. Nothing reads `to` yet.
function halves.write(layout, values, from, to, units, gain)
  local maps, masks = redirected(layout, from, to, units, gain)
  return changed(layout, values, function(about) return touches(about, false, set_of(to)) end, function(t, about)
    local new = weighed(moved(moved(t, about, false, maps), about, true, maps), about, masks)
    return rows(t, new, about, layout.classes, to)
  end)
end

-- What is computed last reads the units `to` instead of `from`, and of other groups only `units`.
function halves.shift(layout, values, from, to, units, gain)
  local maps, masks = redirected(layout, from, to, units, gain)
  return changed(layout, values, function(about) return not touches(about, false) end, function(t, about)
    return weighed(moved(t, about, true, maps), about, masks)
  end)
end

-- Two steps that move units from some places to free ones and change nothing that is computed: copies, then readers.
function halves.copied(layout, values, from, to)
  local maps = {}
  for c, list in pairs(to) do maps[c] = taken(layout.classes[c].size, from[c], list) end
  return changed(layout, values, function(about) return touches(about, false, set_of(to)) end,
    function(t, about) return moved(t, about, false, maps) end)
end

function halves.reread(layout, values, from, to)
  local maps, masks = {}, {}
  for c, list in pairs(to) do
    maps[c] = taken(layout.classes[c].size, from[c], list)
    masks[c] = marked(layout.classes[c].size, from[c], 0, 1)
  end
  return changed(layout, values, function(about) return touches(about, true, set_of(to)) end,
    function(t, about) return weighed(moved(t, about, true, maps), about, masks) end)
end

-- What makes the units comes from other weights.
function halves.joined(layout, values, other, units)
  return changed(layout, values, function(about) return touches(about, false, set_of(units)) end,
    function(t, about, name) return rows(t, other[name], about, layout.classes, units) end)
end

-- What makes no units (outputs, and what belongs to no group) comes from other weights.
function halves.last(layout, values, other)
  local out = {}
  for name, t in pairs(values) do
    local about = layout.tensors[name]
    out[name] = about and touches(about, false) and t or other[name]
  end
  return out
end

-- What makes the units times a number: free units may be scaled, and nothing that is computed changes.
function halves.scaled(layout, values, units, by)
  return changed(layout, values, function(about) return touches(about, false, set_of(units)) end,
    function(t, about) return rows(t, (t * by):to(t.dtype), about, layout.classes, units) end)
end

-- ---- places ----

-- The places of 1 … n that none of the lists holds, in order; at most `most`.
function halves.others(n, most, ...)
  local used, out = {}, {}
  for _, list in ipairs { ... } do
    for _, place in ipairs(list) do used[place] = true end
  end
  for place = 1, n do
    if not used[place] and #out < most then out[#out + 1] = place end
  end
  return out
end

-- Sums of squares over a tensor for each unit of a group, along what makes or reads it; nil: it does neither.
local function squares(t, about, dual, c)
  for d, axis in ipairs(side(about, dual)) do
    for _, segment in ipairs(axis) do
      for k, f in ipairs(segment) do
        if f.class == c then
          local before, after = 1, 1
          for i = 1, k - 1 do before = before * segment[i].size end
          for i = k + 1, #segment do after = after * segment[i].size end
          local cut = {}
          for i = 1, #t.shape do cut[i] = i == d and { segment.offset + 1, segment.offset + segment.size } or {} end
          local x = t[cut]:to "f64":transpose(1, d)
          x = x:reshape { before, f.size, x:numel() // (before * f.size) }
          return (x * x):sum(3):sum(1):reshape { f.size }
        end
      end
    end
  end
end

-- How much each unit of a group counts: the norm of what makes it times that of what reads it.
function halves.importance(layout, values, c, counts)
  local made, read
  for name, t in pairs(values) do
    local about = layout.tensors[name]
    if about and counts(name, t) then
      local m, r = squares(t, about, false, c), squares(t, about, true, c)
      made = m and (made and made + m or m) or made
      read = r and (read and read + r or r) or read
    end
  end
  if made and read then return made * read end
  return made or read
end

return halves
