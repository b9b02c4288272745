-- SPDX-License-Identifier: Apache-2.0
-- How the functions of tensors that are written in Lua read their dimensions, counted from 1 or from -1 at the end.
return function(check, fail, kind)
  local axes = {}

  local shown = require "expect"(kind).shown
  axes.shown = shown

  -- Raises unless all of these are tensors or numbers.
  function axes.operands(name, ...)
    for i = 1, select("#", ...) do
      local of = kind((select(i, ...)))
      if of ~= "tensor" and of ~= "number" then fail(name .. ": expected a tensor or a number, got " .. of) end
    end
  end

  -- A number among options.
  function axes.number(name, what, v)
    if v ~= nil and type(v) ~= "number" then fail(("%s: %s must be a number, got %s"):format(name, what, kind(v))) end
    return v
  end

  -- A list, or a table of options; a shape is a list.
  local function plain(name, v)
    local of = kind(v)
    if type(v) == "table" and of ~= "table" and of ~= "shape" then
      fail(("%s: expected dimensions or a table of options, got %s"):format(name, of))
    end
  end

  -- (dim, keepdim or {dim =, keepdim =, …}) as reductions take it. Returns the dimensions (nil: all, a
  -- number or a list), keepdim, and the table of options.
  function axes.reduction(name, t, dim, options, extra)
    axes.operands(name, t)
    plain(name, dim)
    plain(name, options)
    local names = { "dim", "keepdim", table.unpack(extra or {}) }
    if type(dim) == "table" then
      check(name, dim, names, true)
      local first = dim
      dim = #first > 0 and { table.unpack(first) } or first.dim
      if options == nil then options = first end
    end
    if type(options) == "boolean" then
      options = { keepdim = options }
    else
      check(name, options, names, true)
    end
    options = options or {}
    return dim or options.dim, options.keepdim or false, options
  end

  -- How many elements a reduction over these dimensions joins.
  function axes.count(name, t, dim)
    if dim == nil then return tensor.numel(t) end
    local n = 1
    for _, d in ipairs(axes.list(name, t, dim)) do n = n * t.shape[d] end
    return n
  end

  -- Raises unless t has at least so many dimensions, and at most, where `most` is given.
  function axes.need(name, t, least, most)
    axes.operands(name, t)
    local rank = type(t) == "userdata" and t.rank or 0
    if rank >= least and rank <= (most or rank) then return end
    local want = least == most and "of rank " .. least or "of rank " .. least .. " or more"
    fail(("%s: expected a tensor %s, got %s"):format(name, want, rank == 0 and "a number" or "rank " .. rank))
  end

  -- A dimension, counted from 1.
  function axes.one(name, t, dim)
    local rank, d = type(t) == "userdata" and t.rank or 0, type(dim) == "number" and math.tointeger(dim)
    if not d then fail(("%s: a dimension must be a whole number, got %s"):format(name, shown(dim))) end
    d = d < 0 and rank + 1 + d or d
    if d >= 1 and d <= rank then return d end
    fail(("%s: dimension %s of a tensor of rank %d (dimensions count from 1, or from -1 at the end)")
      :format(name, tostring(dim), rank))
  end

  -- Dimensions, counted from 1, as a list without repeats; nil: all.
  function axes.list(name, t, dims)
    local list, seen = {}, {}
    if dims == nil then
      for d = 1, t.rank do list[d] = d end
      return list
    end
    plain(name, dims)
    for i, dim in ipairs(type(dims) == "table" and dims or { dims }) do
      local d = axes.one(name, t, dim)
      if seen[d] then fail(name .. ": dimension " .. d .. " is named twice") end
      list[i], seen[d] = d, true
    end
    return list
  end

  -- The index of the places first to last, in steps, of dimension d.
  function axes.places(d, first, last, step)
    local index = {}
    for k = 1, d - 1 do index[k] = {} end
    index[d] = { first, last, step }
    return index
  end

  -- The shape of t with another size of dimension d.
  function axes.resized(t, d, size)
    local shape = { table.unpack(t.shape) }
    shape[d] = size
    return shape
  end

  return axes
end
