-- SPDX-License-Identifier: Apache-2.0
-- Order statistics, products, and what is not a number: compositions like those of tensor.lua.
return function(define, check, fail, kind)
  local axes = require "tensor.axes" (check, fail, kind)
  local huge, nan = math.huge, 0 / 0

  local function floating(t) return t.dtype:find "^b?f%d" ~= nil end
  local function arithmetic(t) return t.dtype == "f64" and "f64" or "f32" end

  -- ---- the values at places of the order along one dimension, which stays with size 1 ----

  -- Of a vector, by selection.
  local function by_selection(t)
    local n, dtype = t.shape[1], arithmetic(t)
    return function(place)
      local v = t:kth_largest(n + 1 - place)
      return type(v) == "number" and tensor({ v }, { dtype = dtype }) or v:reshape { 1 }:to(dtype)
    end
  end

  -- Of an expression: what has the rank asked for is the only thing left of its row, so that nothing has to stand in
  -- memory in its order.
  local function by_rank(t, d)
    local ranks = t:ranks(d)
    return function(place)
      local here = ranks:eq(place)
      return tensor.where(here, t, -huge):max(d, true), tensor.where(here, 1, 0):argmax(d, true)
    end
  end

  local function by_sorting(t, d)
    local values, indices = t:sort(d)
    return function(place)
      local at = axes.places(d, place, place)
      return values[at], indices[at]
    end
  end

  local FEW = 16 -- places that selections, some sweeps each, find sooner than a sort

  -- A function from a place (from 1) to value and index; whole: t is a vector of all elements, and no index is given.
  local function ordered(t, d, whole, count)
    if not floating(t) then return by_sorting(t, d) end
    if whole and (t.planned or count <= FEW) then return by_selection(t) end
    return t.planned and by_rank(t, d) or by_sorting(t, d)
  end

  -- t (a vector of all elements without a dimension), the dimension, how many elements stand along it.
  local function line(name, t, dim)
    local whole = dim == nil
    if whole then t, dim = tensor.flatten(t), 1 end
    if type(dim) == "table" and #dim ~= 1 then
      fail(("%s: %d dimensions are named; expected one, or none for all elements"):format(name, #dim))
    end
    local d = axes.one(name, t, type(dim) == "table" and dim[1] or dim)
    if t.shape[d] == 0 then
      fail(whole and name .. ": the tensor has no elements" or name .. ": dimension " .. d .. " has no elements")
    end
    return t, d, t.shape[d]
  end

  -- The shape that is left of all dimensions under keepdim, behind `first`.
  local function ones(t, first)
    local shape = { first }
    for _ = 1, type(t) == "userdata" and t.rank or 0 do shape[#shape + 1] = 1 end
    return shape
  end

  define("tensor:median", "t:median(dim, {keepdim = false}) -> number, or values, indices",
    "The median of all elements, a number, or along one dimension, with the indices (from 1) where it stands: of an "
    .. "even number the lower of the two in the middle, as in PyTorch; t:quantile(0.5) is their mean. NaN if there "
    .. "is a NaN. Exact for every dtype. Of a planned tensor it streams over all elements and along the last "
    .. "dimension. Differentiable: by the element that it is (over all elements in equal shares where several are "
    .. "equal).",
    "print(tensor { 3, 1, 2, 10 }:median())\n-- > 2.0\nprint(tensor { {1, 5, 3}, {9, 7, 8} }:median(2))\n"
    .. "-- > f32[2]\n-- > [3., 8.]\ti64[2]\n-- > [3, 3]",
    function(t, dim, options)
      local axis, keep = axes.reduction("tensor:median", t, dim, options)
      local x, d, n = line("tensor:median", t, axis)
      local values, indices = ordered(x, d, axis == nil, 1)((n + 1) // 2)
      if floating(x) and x:numel() > 0 then
        local wrong = x:ne(x)
        local any = wrong:any(d, true)
        values = tensor.where(any, nan, values)
        indices = axis and tensor.where(any, tensor.where(wrong, 1, 0):argmax(d, true), indices)
      end
      if axis == nil then return keep and values:reshape(ones(t)) or values[1] end
      if keep then return values, indices end
      return values:squeeze(d), indices:squeeze(d)
    end)

  -- q between two places of n: the lower, the upper and how far it is from the lower.
  local between = {
    linear = function(x) return math.floor(x), math.ceil(x), x - math.floor(x) end,
    lower = function(x) return math.floor(x) end,
    higher = function(x) return math.ceil(x) end,
    midpoint = function(x) return math.floor(x), math.ceil(x), 0.5 end,
    nearest = function(x) -- halves to even
      local low = math.floor(x)
      local up = x - low > 0.5 or (x - low == 0.5 and low % 2 == 1)
      return up and low + 1 or low
    end,
  }

  local function places_of(name, q, n, how)
    local rule = between[how]
    if not rule then
      fail(name .. ": interpolation is " .. axes.shown(how)
        .. "; expected \"linear\", \"lower\", \"higher\", "
        .. "\"midpoint\" or \"nearest\"")
    end
    local low, high, share = {}, {}, {}
    for i = 1, math.max(#q, 1) do
      local v = q[i]
      if type(v) ~= "number" or not (v >= 0 and v <= 1) then
        fail(name .. ": q is " .. axes.shown(v) .. "; expected a number from 0 to 1, or several")
      end
      local l, h, s = rule(v * (n - 1))
      low[i], high[i], share[i] = l + 1, h and h + 1, s
    end
    return low, high, share
  end

  define("tensor:quantile",
    "t:quantile(q, dim, {keepdim = false, interpolation = \"linear\"}) -> tensor or number",
    "The value below which the share q (0 to 1) of the elements lies, of all of them or along one dimension. It "
    .. "stands at place 1 + q (n - 1) of the order; between two places it is interpolated: \"linear\", \"lower\", "
    .. "\"higher\", \"midpoint\" or \"nearest\". With a list (or vector) of q the results stand side by side in a "
    .. "new first dimension. NaN if there is a NaN, and between -inf and inf. Integers are interpolated in f64. Of a "
    .. "planned tensor it streams over all elements and along the last dimension. Differentiable, as t:median is.",
    "local t = tensor { 4, 1, 3, 2 }\nprint(t:quantile(0.5), t:quantile({ 0, 0.25, 1 }))\n"
    .. "-- > 2.5\tf32[3]\n-- > [1.0000, 1.7500, 4.0000]\n"
    .. "print(t:quantile(0.5, { interpolation = \"lower\" }))\n-- > 2.0",
    function(t, q, dim, options)
      local name = "tensor:quantile"
      local axis, keep, o = axes.reduction(name, t, dim, options, { "interpolation" })
      local x, d, n = line(name, t, axis)
      if kind(q) == "tensor" then q = q:totable() end
      local several = type(q) == "table"
      local low, high, share = places_of(name, several and q or { q }, n, o.interpolation or "linear")
      local value_at = ordered(x, d, axis == nil, #low + #high)
      local function values_at(places)
        local parts = {}
        for i, place in ipairs(places) do parts[i] = value_at(place) end
        return #parts == 1 and parts[1] or tensor.cat(parts, d)
      end
      local values = values_at(low)
      if high[1] then
        local upper, dtype = values_at(high), floating(x) and arithmetic(x) or "f64"
        local column, rest = ones(x), {}
        column[d] = #low
        for i, s in ipairs(share) do rest[i] = 1 - s end
        local function weights(list) return tensor(list, { dtype = dtype }):reshape(column) end
        local w = weights(share)
        values, upper = values:to(dtype), upper:to(dtype)
        -- By the difference, which never leads outside; where that is too large for the dtype, or one end infinite, as
        -- a weighed sum. Where nothing lies between it is the value itself, as 0 times an infinity is NaN.
        local span, still = upper - values, values:eq(upper):logical_or(w:eq(0))
        local way = tensor.where(span:isinf(), values * weights(rest) + upper * w, values + w * span)
        values = tensor.where(still, values, way)
      end
      if floating(x) then values = tensor.where(x:ne(x):any(d, true), nan, values) end
      if axis == nil then
        if several then return keep and values:reshape(ones(t, #low)) or values end
        return keep and values:reshape(ones(t)) or values[1]
      end
      if not several then return keep and values or values:squeeze(d) end
      local order = { d }
      for k = 1, x.rank do order[#order + 1] = k ~= d and k or nil end
      values = values:permute(order)
      return keep and values:unsqueeze(d + 1) or values
    end)

  -- ---- products ----

  -- The product along dimension d, which stays with size 1: halves times halves, so that the derivative has no
  -- quotient, and none is lost at a zero.
  local function multiplied(x, d)
    local n, rest = x.shape[d], nil
    if n == 0 then return tensor.ones(axes.resized(x, d, 1), { dtype = x.dtype }) end
    while n > 1 do
      if n % 2 == 1 then
        local last = x[axes.places(d, n, n)]
        rest, n = rest and rest * last or last, n - 1
      end
      x, n = x[axes.places(d, 1, n // 2)] * x[axes.places(d, n // 2 + 1, n)], n // 2
    end
    return rest and x * rest or x
  end

  define("tensor:prod", "t:prod(dim, {keepdim = false}) -> tensor or number",
    "The product of all elements, or over dimensions (a number or a list); of no elements 1. Multiplied in f64 in a "
    .. "fixed order; integers and bools give i64. Differentiable, also where elements are zero. A planned tensor "
    .. "stands in memory.",
    "print(tensor { 2, 3, 4 }:prod())\n-- > 24.0\nprint(grad(function(x) return x:prod() end, tensor { 2, 0, 4 }))\n"
    .. "-- > f32[3]\n-- > [0., 8., 0.]",
    function(t, dim, options)
      local dims, keep = axes.reduction("tensor:prod", t, dim, options)
      if type(t) ~= "userdata" then t = tensor.flatten(t) end
      local list, float = axes.list("tensor:prod", t, dims), floating(t)
      local whole = #list == t.rank and not keep
      local x = t:to(float and "f64" or "i64")
      if whole then return multiplied(x:flatten(), 1)[1] end
      for _, d in ipairs(list) do x = multiplied(x, d) end
      x = float and x:to(arithmetic(t)) or x
      return keep and x or x:squeeze(list)
    end)

  -- ---- what is not a number, not zero ----

  define("tensor:isnan", "t:isnan() -> bool tensor", "True where t is NaN.",
    "print(tensor { 1, 0 / 0 }:isnan())\n-- > bool[2]\n-- > [false,  true]",
    function(t)
      axes.operands("tensor:isnan", t)
      return tensor.ne(t, t)
    end)

  define("tensor:isinf", "t:isinf() -> bool tensor", "True where t is infinite, of either sign.",
    "print(tensor { -1 / 0, 1 }:isinf())\n-- > bool[2]\n-- > [ true, false]",
    function(t)
      axes.operands("tensor:isinf", t)
      return tensor.eq(tensor.abs(t), huge)
    end)

  define("tensor:nonzero", "t:nonzero() -> indices",
    "Where t is not zero (NaN is not; a bool tensor: where it is true), in row-major order: an i64 matrix with one "
    .. "row for each such element, its indices counted from 1. t:masked_select gives the elements. Needs values, so "
    .. "it reads files when t is planned.",
    "local i = tensor { {0, 5}, {7, 0} }:nonzero()\nprint(i)\n-- > i64[2, 2]\n-- > [[1, 2],\n-- >  [2, 1]]\n"
    .. "local v = tensor { 4, 0, 6 }\nprint(v[v:nonzero()[{ {}, 1 }]])\n-- > f32[2]\n-- > [4., 6.]",
    function(t)
      axes.need("tensor:nonzero", t, 1)
      if t.recorded then
        fail("tensor:nonzero: how many there are is not known while a function is recorded (grad, compile, merge.map): "
          .. "t:ne(0) is a mask, mask:sum() counts, tensor.where(mask, a, b) chooses")
      end
      local shape, columns = t.shape, {}
      local at = tensor.range(t:numel()):masked_select(t:ne(0):flatten()) - 1
      for d = #shape, 1, -1 do
        columns[d] = at % shape[d] + 1
        at = at // shape[d]
      end
      return tensor.stack(columns, 2)
    end)
end
