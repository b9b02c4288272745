-- SPDX-License-Identifier: Apache-2.0
-- Medians, quantiles and products, what is not a number and not zero: by hand, against an order made in Lua, and their
-- derivatives. That planned tensors give the same bits is in test_planned.lua.
local check = require "check"
local folder = require "folder"
local equal, near, raises, same = check.equal, check.near, check.raises, check.tensor
local nan, huge = 0 / 0, math.huge

local function f64(t) return tensor(t, { dtype = "f64" }) end
local function i64(t) return tensor(t, { dtype = "i64" }) end

-- ---- medians ----

do
  equal(tensor { 5 }:median(), 5.0)
  equal(tensor { 3, 1, 2 }:median(), 2.0)
  equal(tensor { 3, 1, 2, 10 }:median(), 2.0, "the lower of two")
  equal(tensor { { 9, -1 }, { 4, 4 } }:median(), 4.0)
  equal(i64 { 3, 1 << 60, (1 << 60) + 1 }:median(), 1 << 60, "integers are exact")
  equal((5.0):median(), 5.0, "a number")
  equal(tensor { -huge, huge, 1 }:median(), 1.0)
  equal(tensor { 1, nan, 2 }:median(), nan)
  local x = tensor { { 1, 5, 3 }, { 9, 7, 8 } }
  local v, i = x:median(2)
  same(v, { 3.0, 8.0 })
  same(i, { 3, 3 })
  v, i = x:median { dim = 1, keepdim = true }
  same(v, { { 1.0, 5.0, 3.0 } })
  same(i, { { 1, 1, 1 } })
  same((x:median(nil, true)), { { 5.0 } })
  v, i = tensor { { 1, nan, 0 }, { 2, 1, 3 } }:median(-1)
  same(v, { nan, 2.0 })
  same(i, { 2, 1 })
  equal((x:to "bf16"):median(), 5.0)
  local none, at = tensor.zeros { 0, 3 }:median(2)
  equal(none.shape, { 0 })
  equal(at.shape, { 0 })
  raises("tensor:median: the tensor has no elements", function() tensor.median(tensor {}) end)
  raises("tensor:median: dimension 2 has no elements", function() tensor.zeros({ 3, 0 }):median(2) end)
  raises("tensor:median: dimension 3 of a tensor of rank 2", function() x:median(3) end)
  raises("tensor:median: 2 dimensions are named; expected one", function() x:median { 1, 2 } end)
  raises("unknown option 'keepdims'; did you mean 'keepdim'", function() x:median(1, { keepdims = true }) end)
end

-- ---- quantiles: against a list sorted in Lua ----

local function naive(list, q, how)
  local sorted = { table.unpack(list) }
  table.sort(sorted)
  local at = q * (#list - 1)
  local low, high = sorted[at // 1 + 1], sorted[math.ceil(at) + 1]
  if how == "lower" then return low end
  if how == "higher" then return high end
  if how == "midpoint" then return (low + high) / 2 end
  if how == "nearest" then
    local part = at % 1
    return (part > 0.5 or part == 0.5 and at // 1 % 2 == 1) and high or low
  end
  return low + at % 1 * (high - low)
end

do
  local qs = { 0, 0.125, 0.3, 0.5, 0.62, 0.875, 1 }
  for _, n in ipairs { 1, 2, 5, 8, 9 } do
    local x = tensor.randn({ n, 3 }, n, { dtype = "f64" })
    for _, how in ipairs { "linear", "lower", "higher", "midpoint", "nearest" } do
      local all, along = x:quantile(qs, { interpolation = how }), x:quantile(qs, 1, { interpolation = how })
      equal(along.shape, { #qs, 3 })
      for k, q in ipairs(qs) do
        near(all[k], naive(x:flatten():totable(), q, how), 1e-15, how .. " of all")
        near(x:quantile(q, { interpolation = how }), all[k], 0, how .. " of one q")
        for c = 1, 3 do near(along[{ k, c }], naive(x[{ {}, c }]:totable(), q, how), 1e-15, how .. " along 1") end
      end
    end
  end
  -- many places are sorted, few selected: the same values
  local x = tensor.randn({ 1000 }, 3)
  local many = {}
  for k = 0, 40 do many[k + 1] = k / 40 end
  local sorted = x:quantile(many)
  for k = 1, 41, 8 do equal(sorted[k], x:quantile(many[k])) end
  equal(x:quantile(tensor { 0, 1 }).shape, { 2 }, "q as a vector")
  equal(sorted[1], x:min())
  equal(sorted[41], x:max())
  same(i64 { 4, 1 }:quantile({ 0.5 }), { 2.5 })
  equal(i64 { 4, 1 }:quantile(0.5, { interpolation = "lower" }), 1)
  equal(tensor { huge, huge, 1 }:quantile(0.75), huge, "equal infinities")
  equal(tensor { huge, huge, nan }:quantile(0), nan)
  -- integers in f64, whose differences would not fit
  equal(i64 { 16777217, 16777219 }:quantile(0.5), 16777218.0)
  same(i64 { math.mininteger, 1 << 62 }:quantile { 0, 0.5, 1 }, { -2.0 ^ 63, -2.0 ^ 61, 2.0 ^ 62 })
  equal(tensor({ 250, 4 }, { dtype = "u8" }):quantile(0.5), 127.0)
  equal(tensor { true, false }:quantile(0.5), 0.5)
  -- one end infinite, both, and a difference beyond the dtype
  same(tensor { -huge, 5 }:quantile { 0, 0.5, 1 }, { -huge, -huge, 5.0 })
  same(tensor { 5, huge }:quantile { 0, 0.5, 1 }, { 5.0, huge, huge })
  same(tensor { -huge, huge }:quantile { 0, 0.5, 1 }, { -huge, nan, huge })
  equal(tensor { -3e38, 3e38 }:quantile(0.5), 0.0)
  equal(f64 { -1.5e308, 1.5e308 }:quantile(0.5), 0.0)
  same(tensor { { -huge, 5 }, { -3e38, 3e38 } }:quantile(0.5, 2), { -huge, 0.0 })
  for k = 1, 100 do -- neighbours: never outside
    local v = tensor.randn({ 1 }, k)[1]
    local pair = tensor { v, v * (1 + 1.3e-7) }
    local all = pair:quantile { 0.1, 0.3, 0.45, 0.7, 0.9 }
    equal(all:min() >= pair:min() and all:max() <= pair:max(), true, "between neighbours")
  end
  same(tensor { { 1, nan }, { 2, 4 } }:quantile(0.5, 2), { nan, 3.0 })
  local y = tensor.zeros { 2, 3, 4 }
  equal(y:quantile(0.5, 2, true).shape, { 2, 1, 4 })
  equal(y:quantile({ 0.5, 1 }, 2, true).shape, { 2, 2, 1, 4 })
  equal(y:quantile({ 0.5, 1 }, -1).shape, { 2, 2, 3 })
  equal(y:quantile(0.5, { keepdim = true }).shape, { 1, 1, 1 })
  equal(y:quantile({ 0.5 }, { keepdim = true }).shape, { 1, 1, 1, 1 })
  raises("tensor:quantile: q is 50; expected a number from 0 to 1", function() y:quantile(50) end)
  raises("tensor:quantile: q is nil", function() y:quantile() end)
  raises("tensor:quantile: q is nil", function() y:quantile {} end)
  raises("interpolation is cubic; expected \"linear\"", function() y:quantile(0.5, { interpolation = "cubic" }) end)
  raises("tensor:quantile: the tensor has no elements", function() tensor.quantile(tensor {}, 0.5) end)
end

-- ---- products ----

do
  equal(tensor { 2, 3, 4 }:prod(), 24.0)
  for n = 0, 17 do
    local f = 1
    for k = 2, n do f = f * k end
    equal(tensor.range(n):prod(), f, n .. " factorial")
  end
  equal((7.0):prod(), 7.0)
  equal(tensor({ true, false }):prod(), 0)
  equal(tensor({ true, true }):prod(), 1)
  equal(tensor { 1e30, 1e-30, 1e30, 1e-30 }:prod(1):item() < huge, true, "in f64")
  local x = f64 { { 1, 2, 3 }, { 4, 5, 6 } }
  same(x:prod(1), { 4.0, 10.0, 18.0 })
  same(x:prod(-1, { keepdim = true }), { { 6.0 }, { 120.0 } })
  equal(x:prod { 1, 2 }, 720.0)
  equal(x:prod({ 1, 2 }, true).shape, { 1, 1 })
  equal(x:to("f32"):prod(1).dtype, "f32")
  equal(x:prod(1).dtype, "f64")
  same(tensor.zeros({ 0, 2 }):prod(1), { 1.0, 1.0 })
  equal(tensor.zeros({ 0, 2 }):prod(2).shape, { 0 })
  equal(tensor.zeros({ 0, 2 }):prod(), 1.0)
  raises("tensor:prod: dimension 3 of a tensor of rank 2", function() x:prod(3) end)
  raises("tensor:prod: dimension 1 is named twice", function() x:prod { 1, -2 } end)
end

-- ---- not a number, not zero ----

do
  local x = tensor { { 0, nan }, { -huge, 2 } }
  same(x:isnan(), { { false, true }, { false, false } })
  same(x:isinf(), { { false, false }, { true, false } })
  same(i64 { 1 }:isnan(), { false })
  equal(tensor.isnan(nan), true)
  equal(tensor.isinf(huge), true)
  same(x:nonzero(), { { 1, 2 }, { 2, 1 }, { 2, 2 } })
  same(tensor({ true, false, true }):nonzero(), { { 1 }, { 3 } })
  equal(tensor.zeros({ 2, 3, 2 }):nonzero().shape, { 0, 3 })
  equal(tensor.zeros({ 0, 2 }):nonzero().shape, { 0, 2 })
  local y = tensor.randn({ 3, 4, 5 }, 1):gt(0.5)
  local at, picked = y:nonzero(), {}
  for k = 1, #at do picked[k] = y[at[k]:totable()] end
  equal(#picked, y:sum():item() // 1 | 0)
  for k = 1, #picked do equal(picked[k], true) end
  raises("tensor:nonzero: expected a tensor of rank 1 or more, got a number", tensor.nonzero, 5)
  for _, f in ipairs { function(t) return t:nonzero() end, function(t) return t:masked_select(t:gt(0)) end } do
    raises("how many there are is not known while a function is recorded", grad, f, tensor { 1, 2 })
  end
end

-- ---- derivatives ----

local function slopes(f, x, what)
  local g, h = grad(f, x), 1e-6
  for i = 1, x:numel() do
    local up, down = x:clone(), x:clone()
    up:flatten():set_({ i }, x:flatten()[i] + h)
    down:flatten():set_({ i }, x:flatten()[i] - h)
    near(g:flatten()[i], (f(up) - f(down)) / (2 * h), 1e-6, what)
  end
end

do
  local x = tensor.randn({ 3, 4 }, 5, { dtype = "f64" })
  local w = f64 { { 1, 2, 3 }, { 4, 5, 6 } }
  slopes(function(t) return t:median() end, x, "median")
  slopes(function(t) return ((t:median(2)) * w[1]):sum() end, x, "median along")
  slopes(function(t) return t:quantile(0.3) * 2 end, x, "quantile")
  slopes(function(t) return (t:quantile({ 0.3, 0.8 }, 2) * w):sum() end, x, "quantiles along")
  slopes(function(t) return (t:quantile({ 0.3, 0.8, 0.5 }) * w[1]):sum() end, x, "quantiles")
  same(grad(function(t) return t:quantile(0.25) end, tensor { -3e38, 3e38 }), { 0.75, 0.25 }, "of a weighed sum")
  same(grad(function(t) return t:quantile(0) end, tensor { 5, huge }), { 1.0, 0.0 }, "beside an infinity")
  slopes(function(t) return t:prod() end, x, "product")
  slopes(function(t) return (t:prod(2) * w[1]):sum() end, x, "products along")
  local zeros = f64 { { 2, 0, 4 }, { 0, 0, 3 } }
  same(grad(function(t) return t:prod(2):sum() end, zeros), { { 0.0, 8.0, 0.0 }, { 0.0, 0.0, 0.0 } })
  same(hvp(function(t) return t:prod() end, f64 { 0, 0, 3 }, f64 { 1, 0, 0 }), { 0.0, 3.0, 0.0 }, "Hessian")
  same(grad(function(t) return t:median() end, f64 { 1, 2, 2, 3 }), { 0.0, 0.5, 0.5, 0.0 }, "equal shares")
  same((jvp(function(t) return (t:median(1)) * 1 end, f64 { 3, 1, 2 }, f64 { 1, 10, 100 })), 100.0)
end

-- ---- what streams, in less memory than its tensor takes ----

do
  local dir <close> = folder()
  local path = dir "wide.safetensors"
  model.new { { "w", tensor.randn({ 1024, 4096 }, 1):to "bf16" } }:save(path)
  local script = assert(io.open(dir "script.lua", "w"))
  script:write(([[
    local w = model.open(%q).w
    print(w:median():item(), w:quantile({ 0.1, 0.9 }):load()[2], (w:median(2)):load()[7], w:quantile(0.9, 2):load()[7],
      select(2, w:median(2)):load()[7], w:ranks(2):eq(1):sum():item())]]):format(path))
  script:close()
  local w = model.open(path).w:load()
  local code, out, err = dir.tarn("--threads 2 --memory 30M " .. dir "script.lua")
  equal(code, 0, err)
  local v, i = w[7]:median(1)
  equal(out, table.concat({ w:median(), w:quantile(0.9), tostring(v), w[7]:quantile(0.9), i, 1024.0 }, "\t") .. "\n")
end

-- ---- wrong arguments ----

do
  local t, set = tensor { {1, 2}, {3, 4} }, data.two_moons { n = 6 }
  raises("tensor:mean: expected dimensions or a table of options, got dataset", tensor.mean, t, set)
  raises("tensor:mean: expected a tensor or a number, got model", tensor.mean, model.new { a = t })
  raises("tensor:std: a dimension must be a whole number, got x", tensor.std, t, "x")
  raises("tensor:var: correction must be a number, got string", tensor.var, t, { correction = "x" })
  raises("tensor:median: dimension 7 of a tensor of rank 2", tensor.median, t, 7)
  raises("tensor:topk: a dimension must be a whole number, got 1.5", tensor.topk, t, 1, 1.5)
  raises("tensor:cosine: expected a tensor or a number, got nil", tensor.cosine, t, nil)
  raises("tensor:remainder: expected a tensor or a number, got table", function() return t % {} end)
  raises("tensor.gram: element 2 is a net; expected a tensor", tensor.gram, { t, nn.mlp { 2, 3 } })
  raises("tensor.stack: element 1 is a function; expected a tensor", tensor.stack, { print })
  equal({ tensor.mean(3), tensor.all(3), tensor.norm(-3) }, { 3.0, true, 3.0 })
end
print "ok"
