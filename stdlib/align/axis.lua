-- SPDX-License-Identifier: Apache-2.0
-- Maps of classes along the axes of tensors. An axis is segments of factors (align.layout); a class is moved wherever
-- a factor carries it. Hard maps of all factors of an axis become one index, so that a tensor is gathered once and
-- its bits stay; where a map is soft the factors are multiplied one after the other, outermost first.
local axes = {}

local function fail(text, ...) error(text:format(...), 0) end

local function product(list)
  local n = 1
  for _, v in ipairs(list) do n = n * v end
  return n
end

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

local function by_offset(segments)
  local list = { table.unpack(segments) }
  table.sort(list, function(a, b) return a.offset < b.offset end)
  return list
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

-- Parts of an axis of `size` (nil: as far as its segments reach) joined in order; what no segment covers is
-- rest(first, last), from 0, last not included.
local function joined(segments, size, part, rest)
  local parts, at = {}, 0
  for _, segment in ipairs(by_offset(segments)) do
    if segment.offset > at then parts[#parts + 1] = rest(at, segment.offset) end
    parts[#parts + 1] = part(segment)
    at = segment.offset + segment.size
  end
  if size and size > at then parts[#parts + 1] = rest(at, size) end
  return #parts == 1 and parts[1] or tensor.cat(parts, 1)
end

-- The i64 index (from 1) that moves an axis by hard maps, [size]; nil: it stays as it is.
function axes.gather(segments, maps, size)
  if not moves(segments, maps) then return nil end
  return joined(segments, size, function(s) return places(s, maps) end,
    function(first, last) return tensor.arange(last - first) + (first + 1) end)
end

-- What the entries along an axis are multiplied by, [size]; nil: by nothing.
function axes.factor(segments, maps, size)
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
  return joined(segments, size, part, function(first, last) return tensor.ones { last - first } end)
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

-- x with the factors of a segment as dimensions `first`, first + 1, …: factor k is moved by m.
local function soften(x, segment, k, m, first)
  local forward, back = matrices(m)
  local by = is_dual(segment, k) and back or forward:transpose(2, 3) -- [instances, old, new]
  by = by:to(x.dtype)
  local at = outer_of(segment, k, m.under)
  local shape, order, used = x.shape, {}, {}
  for _, f in ipairs(at) do
    order[#order + 1] = first + f - 1
    used[first + f - 1] = true
  end
  local own = first + k - 1
  used[own] = true
  for d = 1, #shape do
    if not used[d] then order[#order + 1] = d end
  end
  order[#order + 1] = own
  local y = x:permute(order)
  local permuted = y.shape
  y = y:reshape { by.shape[1], y:numel() // (by.shape[1] * shape[own]), shape[own] }:matmul(by)
  permuted[#permuted] = by.shape[3]
  local home = {}
  for i, d in ipairs(order) do home[d] = i end
  return y:reshape(permuted):permute(home)
end

-- One axis of a tensor moved by maps of which some are soft.
local function soft_axis(t, axis, segments, maps)
  local x = t.dtype == "f64" and t or t:to "f32"
  local shape, all = x.shape, {}
  for d = 1, #shape do all[d] = {} end
  local function cut(first, last) -- from 0, last not included
    if first == 0 and last == shape[axis] then return x end
    all[axis] = { first + 1, last }
    return x[all]
  end
  local parts, at = {}, 0
  for _, segment in ipairs(by_offset(segments)) do
    if segment.offset > at then parts[#parts + 1] = cut(at, segment.offset) end
    at = segment.offset + segment.size
    local part, split, after = cut(segment.offset, at), {}, {}
    for d = 1, #shape do
      if d ~= axis then
        split[#split + 1], after[d] = shape[d], shape[d]
      else
        for _, f in ipairs(segment) do split[#split + 1] = f.size end
      end
    end
    part = part:reshape(split)
    for k, f in ipairs(segment) do
      local m = f.class and maps[f.class]
      if m then part = soften(part, segment, k, m, axis) end
    end
    after[axis] = 1
    after[axis] = part:numel() // product(after)
    parts[#parts + 1] = part:reshape(after)
  end
  if at < shape[axis] then parts[#parts + 1] = cut(at, shape[axis]) end
  return #parts == 1 and parts[1] or tensor.cat(parts, axis)
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
    kept = { axes.gather(segments, maps, t.shape[axis]), axes.factor(segments, maps, t.shape[axis]) }
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
