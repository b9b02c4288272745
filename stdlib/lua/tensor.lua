-- SPDX-License-Identifier: Apache-2.0
-- Operations that are compositions of others. They are written over the rows of the operation table,
-- so each works on tensors in memory, on planned tensors of files (where it fuses with what is around
-- it) and inside recorded functions (where it is differentiated), and on numbers.
return function(define, check, fail, kind)
  local read = require "tensor.axes" (check, fail, kind)
  local reduction, count, operands, huge = read.reduction, read.count, read.operands, math.huge

  local function list_of_tensors(name, list)
    if type(list) ~= "table" or #list == 0 then
      error(name .. ": expected a list of tensors: " .. name .. "({a, b})", 3)
    end
    for i = 1, #list do
      local of = kind(list[i])
      if of ~= "tensor" and of ~= "number" then
        fail(("%s: element %d is a %s; expected a tensor"):format(name, i, of))
      end
    end
  end

  -- ---- statistics ----

  local function mean(t, dim, options)
    local axes, keep = reduction("tensor:mean", t, dim, options)
    return tensor.sum(t, axes, keep) / count("tensor:mean", t, axes)
  end

  define("tensor:mean", "t:mean(dim, {keepdim = false}) -> tensor or number",
    "The mean over all elements, or over dimensions (a number or a list).",
    "print(tensor { 1, 2, 6 }:mean())\n-- > 3.0", mean)

  local function var(name, t, dim, options)
    local axes, keep, o = reduction(name, t, dim, options, { "correction" })
    local n = math.max(count(name, t, axes) - (read.number(name, "correction", o.correction) or 1), 0)
    if axes == nil and not keep then
      local d = t - mean(t)
      return tensor.dot(d, d) / n
    end
    local d = t - mean(t, axes, true)
    return tensor.sum(d * d, axes, keep) / n
  end

  define("tensor:var", "t:var(dim, {correction = 1, keepdim = false}) -> tensor or number",
    "The variance over all elements or over dimensions: squared deviations over n - correction (1: "
    .. "unbiased, as in PyTorch; 0: of the population).",
    "print(tensor { 1, 2, 3 }:var())\n-- > 1.0",
    function(t, dim, options) return var("tensor:var", t, dim, options) end)

  define("tensor:std", "t:std(dim, {correction = 1, keepdim = false}) -> tensor or number",
    "The standard deviation: the square root of t:var(…).",
    "print(tensor { 2, 4, 6 }:std())\n-- > 2.0",
    function(t, dim, options) return tensor.sqrt(var("tensor:std", t, dim, options)) end)

  define("tensor:norm", "t:norm({p = 2, dim =, keepdim = false}) -> tensor or number",
    "The p-norm of all elements or along dimensions: p = 1, 2, math.huge (the largest magnitude) or any "
    .. "p > 0. The 2-norm of all elements multiplies and adds in f64.",
    "print(tensor { 3, -4 }:norm(), tensor { 3, -4 }:norm { p = 1 })\n-- > 5.0\t7.0",
    function(t, options)
      if type(options) == "number" then
        error("tensor:norm: options are given by name: t:norm { p = 2, dim = 1 }", 2)
      end
      local axes, keep, o = reduction("tensor:norm", t, options, nil, { "p" })
      local p = o.p == "inf" and huge or o.p or 2
      if type(p) ~= "number" or p ~= p or p <= 0 then
        error("tensor:norm: p must be a number above 0, or \"inf\", not " .. read.shown(p), 2)
      end
      if p == huge then return tensor.max(tensor.abs(t), axes, keep) end
      if p == 1 then return tensor.sum(tensor.abs(t), axes, keep) end
      if p == 2 and axes == nil and not keep then return tensor.sqrt(tensor.dot(t, t)) end
      if p == 2 then return tensor.sqrt(tensor.sum(t * t, axes, keep)) end
      return tensor.sum(tensor.abs(t) ^ p, axes, keep) ^ (1 / p)
    end)

  define("tensor:cosine", "a:cosine(b) -> number",
    "The cosine of the angle between a and b, taken as vectors of all their elements; 0 if one is zero.",
    "print(tensor { 1, 0 }:cosine(tensor { 0, 2 }))\n-- > 0.0",
    function(a, b)
      operands("tensor:cosine", a, b)
      local lengths = tensor.sqrt(tensor.dot(a, a)) * tensor.sqrt(tensor.dot(b, b))
      return tensor.dot(a, b) / tensor.maximum(lengths, 1e-300)
    end)

  define("tensor.gram", "tensor.gram({a, b, …}) -> tensor",
    "The k by k matrix of inner products of k tensors of one shape, in f64.",
    "local g = tensor.gram { tensor { 1, 2 }, tensor { 3, 4 } }\nprint(g[{1, 2}], g[{2, 2}])\n-- > 11.0\t25.0",
    function(list)
      list_of_tensors("tensor.gram", list)
      local k, product, all = #list, {}, {}
      for i = 1, k do
        for j = i, k do
          local d = tensor.dot(list[i], list[j])
          d = type(d) == "number" and tensor({ d }, { dtype = "f64" }) or d:reshape({ 1 })
          product[(i - 1) * k + j], product[(j - 1) * k + i] = d, d
        end
      end
      for i = 1, k * k do all[i] = product[i] end
      return tensor.cat(all):reshape({ k, k })
    end)

  define("tensor:all", "t:all(dim, {keepdim = false}) -> bool tensor or boolean",
    "True where every element is true (not zero).", "print(tensor { 1, 0 }:all())\n-- > false",
    function(t, dim, options)
      local axes, keep = reduction("tensor:all", t, dim, options)
      return tensor.eq(tensor.sum(tensor.ne(t, 0), axes, keep), count("tensor:all", t, axes))
    end)

  define("tensor:any", "t:any(dim, {keepdim = false}) -> bool tensor or boolean",
    "True where at least one element is true (not zero).", "print(tensor { 1, 0 }:any())\n-- > true",
    function(t, dim, options)
      local axes, keep = reduction("tensor:any", t, dim, options)
      return tensor.gt(tensor.sum(tensor.ne(t, 0), axes, keep), 0)
    end)

  -- ---- element-wise ----

  define("tensor:clamp", "t:clamp(min, max) -> tensor",
    "Elements below min become min, those above max become max; either may be nil, and the options min "
    .. "and max serve too. NaN stays.",
    "print(tensor { -2, 0, 2 }:clamp(-1, 1))\n-- > f32[3]\n-- > [-1.,  0.,  1.]",
    function(t, min, max)
      if type(min) == "table" then
        check("tensor:clamp", min, { "min", "max" })
        min, max = min.min, min.max
      end
      operands("tensor:clamp", t, min or 0, max or 0)
      if min == nil and max == nil then error("tensor:clamp: give min, max or both", 2) end
      if min ~= nil then t = tensor.where(tensor.lt(t, min), min, t) end
      if max ~= nil then t = tensor.where(tensor.gt(t, max), max, t) end
      return t
    end)

  -- Whole numbers divide in f64, which holds them to 2^53.
  local function quotient(name, a, b)
    operands(name, a, b)
    local whole = false
    for _, x in ipairs({ a, b }) do
      if type(x) == "userdata" then
        if x.dtype:find("^[fb][%df]") then return tensor.floor(a / b) end
        whole = true
      elseif math.type(x) == "float" then
        return tensor.floor(a / b)
      end
    end
    if not whole then return tensor.floor(a / b) end
    return tensor.floor(tensor(a, { dtype = "f64" }) / b):to("i64")
  end

  define("tensor:floor_divide", "t:floor_divide(x) -> tensor",
    "The largest whole number not above t / x; the same as t // x. Integers stay integers.",
    "print(tensor { 7, -7 } // 2)\n-- > f32[2]\n-- > [ 3., -4.]",
    function(a, b) return quotient("tensor:floor_divide", a, b) end)

  define("tensor:remainder", "t:remainder(x) -> tensor",
    "t - floor(t / x) * x: what t // x leaves, with the sign of x; the same as t % x.",
    "print(tensor { 7, -7 } % 4)\n-- > f32[2]\n-- > [3., 1.]",
    function(a, b) return a - quotient("tensor:remainder", a, b) * b end)

  -- ---- comparing ----

  local function same_shape(name, a, b)
    operands(name, a, b)
    if type(a) ~= "userdata" or type(b) ~= "userdata" then return type(a) == type(b) end
    return a.shape == b.shape
  end

  define("tensor:equal", "a:equal(b) -> boolean",
    "True if a and b have the same shape and every element is equal (NaN equals nothing). Reads files "
    .. "when one is planned.",
    "print(tensor.equal(tensor { 1, 2 }, tensor { 1, 2 }))\n-- > true",
    function(a, b) return same_shape("tensor:equal", a, b) and tensor.sum(tensor.ne(a, b)):item() == 0 end)

  define("tensor:allclose", "a:allclose(b, {rtol = 1e-5, atol = 1e-8, equal_nan = false}) -> boolean",
    "True if a and b have the same shape and |a - b| <= atol + rtol |b| everywhere. Reads files when one "
    .. "is planned.",
    "print(tensor { 1, 2 }:allclose(tensor { 1, 2.000001 }))\n-- > true",
    function(a, b, options)
      check("tensor:allclose", options, { "rtol", "atol", "equal_nan" })
      local o = options or {}
      if not same_shape("tensor:allclose", a, b) then return false end
      local rtol, atol = read.number("tensor:allclose", "rtol", o.rtol), read.number("tensor:allclose", "atol", o.atol)
      local far = tensor.gt(tensor.abs(a - b), tensor.abs(b) * (rtol or 1e-5) + (atol or 1e-8))
      -- Equal infinities have no difference; where one is not finite, only equality is near.
      local finite = tensor.logical_and(tensor.isfinite(a), tensor.isfinite(b))
      far = tensor.where(finite, far, tensor.ne(a, b))
      if o.equal_nan then
        local nan = tensor.logical_and(tensor.ne(a, a), tensor.ne(b, b))
        far = tensor.logical_and(far, tensor.logical_not(nan))
      end
      return tensor.sum(far):item() == 0
    end)

  -- ---- joining and picking ----

  define("tensor.stack", "tensor.stack({a, b, …}, dim) -> tensor",
    "Joined along a new dimension dim (1 when left out); all shapes agree.",
    "print(tensor.stack({ tensor { 1, 2 }, tensor { 3, 4 } }))\n-- > f32[2, 2]\n-- > [[1., 2.],\n-- >  [3., 4.]]",
    function(list, dim)
      list_of_tensors("tensor.stack", list)
      if dim ~= nil and math.type(dim) ~= "integer" then
        fail("tensor.stack: a dimension must be a whole number, got " .. read.shown(dim))
      end
      local parts = {}
      for i, t in ipairs(list) do
        if type(t) == "number" then t = tensor { t } elseif t.rank > 0 then t = t:unsqueeze(dim or 1)
        else t = t:reshape({ 1 }) end
        parts[i] = t
      end
      return tensor.cat(parts, dim)
    end)

  define("tensor:topk", "t:topk(k, dim, {largest = true}) -> values, indices",
    "The k largest (or smallest) elements along dim (the last when left out), sorted, and their indices, "
    .. "counted from 1.",
    "local v, i = tensor { 3, 1, 2 }:topk(2)\nprint(v, i)\n-- > f32[2]\n-- > [3., 2.]\ti64[2]\n-- > [1, 3]",
    function(t, k, dim, options)
      local name = "tensor:topk"
      read.need(name, t, 1)
      if type(dim) == "table" then
        check(name, dim, { "dim", "largest" })
        dim, options = dim.dim, dim
      end
      check(name, options, { "dim", "largest" })
      dim = read.one(name, t, dim or -1)
      local values, indices = t:sort(dim, { descending = not options or options.largest ~= false })
      local at, size = {}, t.shape[dim]
      if math.type(k) ~= "integer" or k < 0 or k > size then
        error(name .. ": k is " .. read.shown(k) .. "; the dimension has " .. size .. " elements", 2)
      end
      for d = 1, t.rank do at[d] = {} end
      at[dim] = { 1, k }
      return values[at], indices[at]
    end)
end
