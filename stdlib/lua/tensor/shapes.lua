-- SPDX-License-Identifier: Apache-2.0
-- Parts of matrices, orders and pieces: compositions like those of tensor.lua, which move elements and are all
-- differentiable.
return function(define, check, fail, kind)
  local axes = require "tensor.axes" (check, fail, kind)

  local function whole(name, what, v, least)
    if math.type(v) ~= "integer" then fail(("%s: %s is a whole number, not %s"):format(name, what, axes.shown(v))) end
    if least and v < least then fail(("%s: %s is %d; expected %d or more"):format(name, what, v, least)) end
    return v
  end

  -- ---- matrices ----

  -- The two dimensions at the end and seen as one: there the next on the diagonal is a row and a place further.
  local function diagonal(t, offset, a, b)
    local shape, order = t.shape, {}
    for d = 1, #shape do order[#order + 1] = d ~= a and d ~= b and d or nil end
    order[#order + 1], order[#order + 2] = a, b
    local x, m, n = t:permute(order), shape[a], shape[b]
    local seen = { table.unpack(x.shape, 1, #shape - 2) }
    seen[#seen + 1] = m * n
    local count = math.max(0, math.min(m + math.min(offset, 0), n - math.max(offset, 0)))
    local first = offset < 0 and -offset * n + 1 or offset + 1
    local last = first + (count - 1) * (n + 1)
    if count == 0 then first, last = 1, 0 end
    return x:reshape(seen)[axes.places(#seen, first, last, n + 1)]
  end

  define("tensor:diagonal", "t:diagonal(offset, dim1, dim2) -> tensor",
    "The diagonal of the dimensions dim1 and dim2 (1 and 2 when left out), which go; it stands in a new last "
    .. "dimension. offset counts diagonals to the right of the main one (0 when left out), or below it where "
    .. "negative. In memory it is a view where t lies in one piece, as that of t:reshape.",
    "local t = tensor { {1, 2}, {3, 4} }\nprint(t:diagonal(), t:diagonal(1))\n-- > f32[2]\n-- > [1., 4.]\tf32[1]\n"
    .. "-- > [2.]",
    function(t, offset, dim1, dim2)
      local name = "tensor:diagonal"
      axes.need(name, t, 2)
      local a, b = axes.one(name, t, dim1 or 1), axes.one(name, t, dim2 or 2)
      if a == b then fail(name .. ": dim1 and dim2 are both dimension " .. a) end
      return diagonal(t, whole(name, "offset", offset or 0), a, b)
    end)

  define("tensor:diag", "t:diag(offset) -> tensor",
    "Of a vector the matrix that has it on its diagonal and zeros else; of a matrix its diagonal. offset as for "
    .. "t:diagonal.",
    "print(tensor { 1, 2 }:diag())\n-- > f32[2, 2]\n-- > [[1., 0.],\n-- >  [0., 2.]]",
    function(t, offset)
      axes.need("tensor:diag", t, 1)
      local k, n = whole("tensor:diag", "offset", offset or 0), #t
      if t.rank == 2 then return diagonal(t, k, 1, 2) end
      axes.need("tensor:diag", t, 1, 1)
      local at = tensor.range(n)
      local x = tensor.where(at:unsqueeze(2):eq(at), t, 0)
      return x:pad({ { math.max(-k, 0), math.max(k, 0) }, { math.max(k, 0), math.max(-k, 0) } }):to(t.dtype)
    end)

  define("tensor:trace", "t:trace() -> number",
    "The sum of the diagonal of a matrix; of a batch: t:diagonal(0, -2, -1):sum(-1).",
    "print(tensor { {1, 2}, {3, 4} }:trace())\n-- > 5.0",
    function(t)
      axes.need("tensor:trace", t, 2, 2)
      return diagonal(t, 0, 1, 2):sum()
    end)

  -- t where its last two dimensions stand to each other as wanted, else 0.
  local function triangle(name, t, offset, compare)
    axes.need(name, t, 2)
    local rows = tensor.range(t.shape[t.rank - 1]):unsqueeze(2) + whole(name, "offset", offset or 0)
    local keep = compare(tensor.range(t.shape[t.rank]), rows)
    return tensor.where(keep, t, 0):to(t.dtype)
  end

  define("tensor:tril", "t:tril(offset) -> tensor",
    "The lower triangle of matrices [.., m, n]: zero to the right of the diagonal, or of the one that offset names "
    .. "(as for t:diagonal).",
    "print(tensor.ones({ 2, 2 }):tril())\n-- > f32[2, 2]\n-- > [[1., 0.],\n-- >  [1., 1.]]",
    function(t, offset) return triangle("tensor:tril", t, offset, tensor.le) end)

  define("tensor:triu", "t:triu(offset) -> tensor",
    "The upper triangle of matrices [.., m, n]: zero to the left of the diagonal, or of the one that offset names "
    .. "(as for t:diagonal).",
    "print(tensor.ones({ 2, 2 }):triu(1))\n-- > f32[2, 2]\n-- > [[0., 1.],\n-- >  [0., 0.]]",
    function(t, offset) return triangle("tensor:triu", t, offset, tensor.ge) end)

  define("tensor:outer", "a:outer(b) -> tensor",
    "The matrix of all products of an element of the vector a (its row) and one of the vector b (its column).",
    "print(tensor { 1, 2 }:outer(tensor { 3, 4 }))\n-- > f32[2, 2]\n-- > [[3., 4.],\n-- >  [6., 8.]]",
    function(a, b)
      axes.need("tensor:outer", a, 1, 1)
      axes.need("tensor:outer", b, 1, 1)
      return a:unsqueeze(2) * b
    end)

  -- ---- orders ----

  define("tensor:flip", "t:flip(dims) -> tensor",
    "The other way round along dimensions (a number or a list; all when left out).",
    "print(tensor { 1, 2, 3 }:flip())\n-- > f32[3]\n-- > [3., 2., 1.]",
    function(t, dims, more)
      axes.need("tensor:flip", t, 1)
      if more ~= nil then fail("tensor:flip: several dimensions are a table: t:flip({ 1, 2 })") end
      local list = axes.list("tensor:flip", t, dims)
      for _, d in ipairs(list) do t = t:index_select(d, tensor.range(t.shape[d], 1, -1)) end
      return #list > 0 and t or t:clone()
    end)

  local function rolled(t, shift, d)
    local n = t.shape[d]
    local s = n > 0 and shift % n or 0
    if s == 0 then return t:clone() end
    return tensor.cat({ t[axes.places(d, n - s + 1, n)], t[axes.places(d, 1, n - s)] }, d)
  end

  define("tensor:roll", "t:roll(shift, dim) -> tensor",
    "Moved by shift places along dim; what goes over the end comes in at the front. Lists of shifts and dimensions "
    .. "move along several; without dim the elements move in row-major order.",
    "print(tensor { 1, 2, 3 }:roll(1))\n-- > f32[3]\n-- > [3., 1., 2.]",
    function(t, shift, dim)
      local name = "tensor:roll"
      axes.need(name, t, 1)
      if dim == nil then return rolled(t:flatten(), whole(name, "shift", shift), 1):reshape(t.shape) end
      local shifts, dims = type(shift) == "table" and shift or { shift }, type(dim) == "table" and dim or { dim }
      if #shifts ~= #dims then fail(("%s: %d shifts for %d dimensions"):format(name, #shifts, #dims)) end
      for i, d in ipairs(dims) do t = rolled(t, whole(name, "shift", shifts[i]), axes.one(name, t, d)) end
      return t
    end)

  define("tensor:tile", "t:tile(counts) -> tensor",
    "t as often as counts says along each dimension, one copy after another (PyTorch's repeat); one count is of the "
    .. "last dimension, more counts than dimensions make new ones in front. t:repeat_interleave repeats each slice "
    .. "in place.",
    "print(tensor { 1, 2 }:tile({ 2, 2 }))\n-- > f32[2, 4]\n-- > [[1., 2., 1., 2.],\n-- >  [1., 2., 1., 2.]]",
    function(t, counts, more)
      axes.need("tensor:tile", t, 1)
      if counts == nil or more ~= nil then fail("tensor:tile: the counts are a table: t:tile({ 2, 3 })") end
      if type(counts) ~= "table" then counts = { counts } end
      for i = 1, #counts do
        whole("tensor:tile", "a count", counts[i], 0)
      end
      local once = true
      while t.rank < #counts do t = t:unsqueeze(1) end
      for i, count in ipairs(counts) do
        if count ~= 1 then
          local d = t.rank - #counts + i
          local before, after = 1, 1 -- as three dimensions, as there may be no room for one more
          for k, n in ipairs(t.shape) do
            if k < d then before = before * n else after = after * n end
          end
          local apart = t:reshape { before, 1, after }:expand { before, count, after }
          t = apart:reshape(axes.resized(t, d, t.shape[d] * count))
          once = false
        end
      end
      return once and t:clone() or t
    end)

  -- ---- pieces ----

  local function pieces(t, d, sizes)
    local list, first = {}, 1
    for i, size in ipairs(sizes) do
      list[i] = t[axes.places(d, first, first + size - 1)]
      first = first + size
    end
    return list
  end

  -- As many of a size as there are, and what is left.
  local function even(n, size)
    local sizes = {}
    for at = 0, math.max(n - 1, 0), size do sizes[#sizes + 1] = math.min(size, n - at) end
    return sizes
  end

  define("tensor:split", "t:split(size, dim) -> list of tensors",
    "Pieces of so many places along dim (1 when left out), the last one with what is left; or, with a list of sizes, "
    .. "pieces of these. In memory they are views, as t[{ {1, size} }] is. tensor.cat(pieces, dim) joins them again.",
    "local p = tensor { 1, 2, 3 }:split(2)\nprint(#p, p[1], p[2])\n-- > 2\tf32[2]\n-- > [1., 2.]\tf32[1]\n-- > [3.]",
    function(t, size, dim)
      local name = "tensor:split"
      axes.need(name, t, 1)
      local d = axes.one(name, t, dim or 1)
      local n = t.shape[d]
      if type(size) ~= "table" then
        return pieces(t, d, even(n, whole(name, "the size", size, 1)))
      end
      local sum = 0
      for _, s in ipairs(size) do
        sum = sum + whole(name, "a size", s, 0)
      end
      if sum ~= n then fail(("%s: the sizes add up to %d; dimension %d has %d"):format(name, sum, d, n)) end
      return pieces(t, d, size)
    end)

  define("tensor:chunk", "t:chunk(n, dim) -> list of tensors",
    "n pieces of equal size along dim (1 when left out); where it does not divide, the last one is smaller and there "
    .. "may be fewer, as in PyTorch. In memory they are views.",
    "local q, k, v = table.unpack(tensor.range(6):chunk(3))\nprint(k)\n-- > i64[2]\n-- > [3, 4]",
    function(t, n, dim)
      local name = "tensor:chunk"
      axes.need(name, t, 1)
      local d = axes.one(name, t, dim or 1)
      whole(name, "the number of pieces", n, 1)
      return pieces(t, d, even(t.shape[d], math.max(1, (t.shape[d] + n - 1) // n)))
    end)
end
