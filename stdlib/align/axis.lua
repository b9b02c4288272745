-- SPDX-License-Identifier: Apache-2.0
-- Maps of classes along the axes of tensors. An axis is segments of factors (align.layout); a class is moved wherever
-- a factor carries it. Hard maps of all factors of an axis become one index, so that a tensor is gathered once and
-- its bits stay; where a map is soft the factors are multiplied one after the other, outermost first. Segments follow
-- each other and fill their axis. All that goes over the factors of a tensor's axis does it here.
local axes = {}

local function fail(text, ...) error(text:format(...), 0) end

local floating = require "floating"
axes.floating = floating

-- ---- hard maps ----

-- Positions of the factors that a class of this segment lies under, outermost first.
local function outer_of(segment, k, under)
  local at = {}
  for i, c in ipairs(under) do
    for f = 1, k - 1 do
      if segment[f].class == c then at[i] = f end
    end
    if not at[i] then
      fail("align: class %d lies under class %d, which no factor before it has", segment[k].class, c)
    end
  end
  return at
end

-- [instances, n] as a tensor over the factors of a segment, of size 1 along those it does not depend on.
local function spread(t, segment, k, under)
  local at, sizes, order = outer_of(segment, k, under), {}, {}
  for i, f in ipairs(at) do sizes[i], order[i] = segment[f].size, i end
  sizes[#sizes + 1] = segment[k].size
  table.sort(order, function(a, b) return at[a] < at[b] end)
  order[#order + 1] = #sizes
  local shape = {}
  for f = 1, #segment do shape[f] = 1 end
  for _, f in ipairs(at) do shape[f] = segment[f].size end
  shape[k] = segment[k].size
  t = t:reshape(sizes)
  if #sizes > 2 then t = t:permute(order) end
  return t:reshape(shape)
end

local function arange(segment, k)
  local shape = {}
  for f = 1, #segment do shape[f] = 1 end
  shape[k] = segment[k].size
  return tensor.arange(segment[k].size):reshape(shape)
end

local function hard_in(segment, maps)
  local any = false
  for _, f in ipairs(segment) do
    local m = f.class and maps[f.class]
    if m and not m.index then return nil end
    any = any or m ~= nil
  end
  return any
end

-- The places (from 1) that the places of a segment are taken from, [size].
local function places(segment, maps)
  if not hard_in(segment, maps) then return tensor.arange(segment.size) + (segment.offset + 1) end
  local at, stride = segment.offset + 1, 1
  for k = #segment, 1, -1 do
    local m = segment[k].class and maps[segment[k].class]
    local digit = m and spread(m.index - 1, segment, k, m.under) or arange(segment, k)
    at, stride = digit * stride + at, stride * segment[k].size
  end
  return at:reshape { segment.size }
end

-- Whether a factor is read, and so takes the inverse.
local function is_dual(segment, k)
  local own = segment[k].dual
  if own == nil then return segment.dual end
  return own
end

local function moves(segments, maps, field)
  for _, segment in ipairs(segments) do
    for _, f in ipairs(segment) do
      local m = f.class and maps[f.class]
      if m and (not field or m[field]) then return true end
    end
  end
  return false
end

-- What is made of each segment of an axis, one after another along dimension `axis`.
local function joined(segments, axis, part)
  local parts = {}
  for k, segment in ipairs(segments) do parts[k] = part(segment) end
  return #parts == 1 and parts[1] or tensor.cat(parts, axis)
end

-- The i64 index (from 1) that moves an axis by hard maps, [size]; nil: it stays as it is.
function axes.gather(segments, maps)
  if not moves(segments, maps) then return nil end
  return joined(segments, 1, function(s) return places(s, maps) end)
end

-- What the entries along an axis are multiplied by, [size]; nil: by nothing.
function axes.factor(segments, maps)
  if not moves(segments, maps, "sign") and not moves(segments, maps, "scale") then return nil end
  local function part(segment)
    local shape = {}
    for k = 1, #segment do shape[k] = segment[k].size end
    local at = tensor.ones(shape)
    for k, f in ipairs(segment) do
      local m = f.class and maps[f.class]
      if m and m.sign then at = at * spread(m.sign, segment, k, m.under) end
      if m and m.scale then
        local s = spread(m.scale, segment, k, m.under)
        at = is_dual(segment, k) and at / s or at * s
      end
    end
    return at:reshape { segment.size }
  end
  return joined(segments, 1, part)
end

-- ---- an axis taken apart ----

-- What a tensor has in a segment of an axis, with its factors as dimensions axis, axis + 1, …
local function split(t, axis, segment)
  local old, all, shape = t.shape, {}, {}
  for d, n in ipairs(old) do
    all[d] = d == axis and { segment.offset + 1, segment.offset + segment.size } or {}
    if d ~= axis then shape[#shape + 1] = n end
    for k = 1, d == axis and #segment or 0 do shape[#shape + 1] = segment[k].size end
  end
  if segment.size < old[axis] then t = t[all] end
  return #segment <= 1 and t or t:reshape(shape)
end

-- Dimensions axis … axis + n - 1 as one.
local function merged(t, axis, n)
  local shape = {}
  for d, size in ipairs(t.shape) do
    if d > axis and d < axis + n then shape[axis] = shape[axis] * size else shape[#shape + 1] = size end
  end
  return n <= 1 and t or t:reshape(shape)
end

-- Factors of a segment of an axis as dimensions of what split gives.
local function dims(axis, factors)
  local out = {}
  for i, k in ipairs(factors) do out[i] = axis + k - 1 end
  return out
end

-- All dimensions, those of `first` before and those of `last` behind the others; with it whether they stand so already.
local function ordered(rank, first, last)
  local order, placed, same = {}, {}, true
  for _, list in ipairs { first, last } do
    for _, d in ipairs(list) do placed[d] = true end
  end
  for i, d in ipairs(first) do order[i] = d end
  for d = 1, rank do
    if not placed[d] then order[#order + 1] = d end
  end
  for _, d in ipairs(last) do order[#order + 1] = d end
  for i, d in ipairs(order) do same = same and i == d end
  return order, same
end

-- [rows, places] of the factors `own` of a segment; rows are all else, in order.
function axes.unfold(t, axis, segment, own)
  local n = 1
  for _, k in ipairs(own) do n = n * segment[k].size end
  t = split(t, axis, segment)
  local order, same = ordered(#t.shape, {}, dims(axis, own))
  if not same then t = t:permute(order) end
  return t:reshape { t:numel() // n, n }
end

-- x with the dimensions `own`, as one, multiplied by by [instances, old, new], one for each place of those of `outer`.
local function multiplied(x, outer, own, by)
  local order, home = ordered(#x.shape, outer, own), {}
  local y, instances, old = x:permute(order), by.shape[1], by.shape[2]
  local shape = y.shape
  if #own == 1 then shape[#shape] = by.shape[3] end
  for i, d in ipairs(order) do home[d] = i end
  return y:reshape { instances, x:numel() // (instances * old), old }:matmul(by):reshape(shape):permute(home)
end

-- A tensor in which the factors `own` of one of the segments of an axis are multiplied, as one, by a matrix.
function axes.multiply(t, axis, segments, segment, own, matrix)
  return joined(segments, axis, function(s)
    local part = split(t, axis, s)
    if s == segment then part = multiplied(part, {}, dims(axis, own), matrix:t():unsqueeze(1)) end
    return merged(part, axis, #s)
  end)
end

-- Segments as they stand where maps have moved their axis.
function axes.after(segments, maps)
  local out, at = {}, 0
  for i, s in ipairs(segments) do
    local own = { offset = at, size = 1, dual = s.dual }
    for k, f in ipairs(s) do
      local m = f.class and maps[f.class]
      own[k] = { size = m and (m.index or m.forward).shape[2] or f.size, class = f.class, dual = f.dual }
      own.size = own.size * own[k].size
    end
    out[i], at = own, at + own.size
  end
  return out
end

-- ---- soft maps ----

-- forward [instances, new, old] and back [instances, old, new] of any map.
local function matrices(m)
  if not m.index then return m.forward, m.back end
  local n = m.index.shape[2]
  local one = m.index:unsqueeze(3):eq(tensor.arange(n) + 1):to "f32"
  local gain = m.sign
  if m.scale then gain = gain and gain * m.scale or m.scale end
  local forward = gain and one * gain:unsqueeze(3) or one
  local undo = m.sign
  if m.scale then undo = undo and undo / m.scale or 1 / m.scale end
  local back = undo and one * undo:unsqueeze(3) or one
  return forward, back:transpose(2, 3)
end
axes.matrices = matrices

-- One axis of a tensor moved by maps of which some are soft.
local function soft_axis(t, axis, segments, maps)
  t = t.dtype == "f64" and t or t:to "f32"
  return joined(segments, axis, function(segment)
    local part = split(t, axis, segment)
    for k, f in ipairs(segment) do
      local m = f.class and maps[f.class]
      if m then
        local forward, back = matrices(m)
        local by = is_dual(segment, k) and back or forward:transpose(2, 3) -- [instances, old, new]
        part = multiplied(part, dims(axis, outer_of(segment, k, m.under)), dims(axis, { k }), by:to(t.dtype))
      end
    end
    return merged(part, axis, #segment)
  end)
end

-- One axis moved by the maps; `memo` keeps the indices of axes that are alike.
function axes.along(t, axis, segments, maps, memo)
  if not moves(segments, maps) then return t end
  for _, segment in ipairs(segments) do
    if hard_in(segment, maps) == nil then
      if not floating[t.dtype] then return t end
      return soft_axis(t, axis, segments, maps):to(t.dtype)
    end
  end
  local kept = memo and memo[segments]
  if not kept then
    kept = { axes.gather(segments, maps), axes.factor(segments, maps) }
    if memo then memo[segments] = kept end
  end
  local y = t:index_select(axis, kept[1])
  if kept[2] then
    local shape = {}
    for d = 1, #t.shape do shape[d] = d == axis and t.shape[d] or 1 end
    y = (y * kept[2]:reshape(shape)):to(t.dtype)
  end
  return y
end

-- A tensor moved along all its axes (those of a layout's tensor or site), but for the axis `except`.
function axes.move(t, of, maps, memo, except)
  for axis, segments in pairs(of) do
    if axis ~= except and #segments > 0 then t = axes.along(t, axis, segments, maps, memo) end
  end
  return t
end

axes.moves, axes.is_dual = moves, is_dual

return axes
