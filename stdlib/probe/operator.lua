-- SPDX-License-Identifier: Apache-2.0
-- A symmetric linear map on vectors of one dimension, however it was given: the derivatives of a loss at a point, a
-- matrix, or a function. What works on it (Lanczos, trace estimates) knows nothing else.
return function(core)
  local flat_of = require "probe.flat"(core)
  local operator = {}

  local kinds = {
    hessian = { "Hessian", function(H, v) return H:hvp(v) end },
    ggn = { "Gauss-Newton matrix", function(H, v) return H:ggn(v) end },
    residual = { "Hessian less the Gauss-Newton matrix", function(H, v) return H:hvp(v) - H:ggn(v) end },
  }

  local function of_linearisation(what, H, o)
    local kind = o.kind or "hessian"
    local row = kinds[kind]
    if not row then
      error(('%s: kind = %q; expected "hessian", "ggn" or "residual"'):format(what, tostring(kind)), 0)
    end
    if not H.theta then error(what .. ": this linearisation is closed", 0) end
    local space = flat_of(what, H.theta, H.f.net, o.only)
    if kind == "residual" and core.kind(H.theta) ~= "model" then
      error(what .. ": kind = \"residual\" needs a model, not a table of tensors", 0)
    end
    return { n = space.n, dtype = space.dtype, kind = kind, title = row[1], names = space.names, unpack = space.unpack,
      pack = space.pack, linear = H,
      apply = function(v) return space.pack(row[2](H, space.unpack(v))) end }
  end

  local function of_matrix(what, t)
    local shape = t.shape
    if #shape ~= 2 or shape[1] ~= shape[2] then
      error(("%s: expected a square matrix, got %s"):format(what, tostring(shape)), 0)
    end
    t = t.dtype == "f64" and t or t:to "f32"
    return { n = shape[1], dtype = t.dtype, kind = "matrix", title = "matrix",
      unpack = function(v) return v end, pack = function(v) return v end, apply = function(v) return t:matmul(v) end }
  end

  local function of_function(what, H)
    if H.like == nil then error(what .. ": { apply = function(v), like = } without like, a model or tensor", 0) end
    local space = flat_of(what, H.like)
    return { n = space.n, dtype = space.dtype, kind = "function", title = H.title or "operator", names = space.names,
      unpack = space.unpack, pack = space.pack,
      apply = function(v) return space.pack(H.apply(space.unpack(v))) end }
  end

  -- of(what, H, {kind =, only =}) -> { n, dtype, kind, title, apply(vector), pack, unpack, names, linear }
  function operator.of(what, H, o)
    o = o or {}
    local op
    if core.kind(H) == "tensor" then
      op = of_matrix(what, H)
    elseif type(H) == "table" and core.kind(H) ~= "dataset" and type(H.apply) == "function" then
      op = of_function(what, H)
    elseif core.kind(H) == "linearisation" then
      return of_linearisation(what, H, o)
    else
      error(("%s: expected f:linearize(theta), a symmetric matrix or { apply =, like = }, got %s"):format(what,
        core.kind(H)), 0)
    end
    if o.kind or o.only then error(what .. ": kind and only are of f:linearize(theta)", 0) end
    return op
  end

  -- n numbers +1 and -1, number k of a seed.
  function operator.signs(op, seed, k)
    return tensor.bernoulli({ op.n }, 0.5, seed + 1000003 * k):to(op.dtype) * 2 - 1
  end

  -- ---- memory ----

  local function amount(bytes)
    for _, unit in ipairs { { 1e9, "GB" }, { 1e6, "MB" } } do
      if bytes >= unit[1] then return ("%.3g %s"):format(bytes / unit[1], unit[2]) end
    end
    return ("%.3g kB"):format(bytes / 1e3)
  end

  -- Refuses what `rows` vectors of n numbers would take beside `extra` of them at work, and says how many fit, in units
  -- of the option (of `per` vectors each; default: one).
  function operator.fits(what, n, dtype, rows, extra, option, per)
    local size = dtype == "f64" and 8 or 4
    local limit, used = core.memory()
    if (rows + extra) * n * size > limit - used then
      collectgarbage()
      limit, used = core.memory()
    end
    local room = limit - used
    if (rows + extra) * n * size <= room then return end
    local most = (room // (n * size) - extra) // (per or 1) | 0
    error(("%s: %d vectors of %d numbers (%s) take %s and %s of memory are left; %s"):format(what, rows, n, dtype,
      amount((rows + extra) * n * size), amount(room),
      most >= 2 and ("%s = %d would fit"):format(option, most) or "not even 2 would fit: raise --memory"), 0)
  end

  return operator
end
