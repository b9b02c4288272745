-- SPDX-License-Identifier: Apache-2.0
-- einsum against sums written out, cumsum, repeating, filling, picking and adding by index: in memory,
-- planned and recorded; derivatives where operands are constants, integers or of another dtype.
local check = require "check"
local equal, near, raises, same = check.equal, check.near, check.raises, check.tensor

local function f64(t) return tensor(t, { dtype = "f64" }) end
local function i64(t) return tensor(t, { dtype = "i64" }) end
local function close(got, want, what)
  if type(want) == "number" then return near(got, want, 1e-12 * (1 + math.abs(want)), what) end
  equal(got.shape, want.shape, what)
  near(tensor.abs(got - want):max(), 0, 1e-12 * (1 + tensor.abs(want):max()), what)
end
local function random(shape, seed) return tensor.randn(shape, seed, { dtype = "f64" }) end

-- ---- einsum: every index runs in a loop of its own ----

local function naive(equation, ...)
  local operands, parts = { ... }, {}
  local left, right = equation:match("^(.*)%->(.*)$")
  for part in (left .. ","):gmatch("(.-),") do parts[#parts + 1] = part end
  local size, order = {}, {}
  for k, part in ipairs(parts) do
    for d = 1, #part do
      local l = part:sub(d, d)
      if not size[l] then order[#order + 1] = l end
      size[l] = math.max(size[l] or 1, operands[k].shape[d])
    end
  end
  local shape, total = {}, 1
  for d = 1, #right do shape[d] = size[right:sub(d, d)] total = total * shape[d] end
  local sum, at = {}, {}
  for i = 1, total do sum[i] = 0 end
  local flat = {}
  for k, t in ipairs(operands) do flat[k] = t:flatten():totable() end
  local function place(letters, dims)
    local i = 0
    for d = 1, #letters do
      i = i * dims[d] + (dims[d] == 1 and 0 or at[letters:sub(d, d)] - 1)
    end
    return i + 1
  end
  local function run(n)
    if n > #order then
      local p = 1
      for k, part in ipairs(parts) do p = p * flat[k][place(part, operands[k].shape)] end
      local i = place(right, shape)
      sum[i] = sum[i] + p
      return
    end
    for v = 1, size[order[n]] do
      at[order[n]] = v
      run(n + 1)
    end
  end
  run(1)
  if #right == 0 then return sum[1] end
  return f64(sum):reshape(shape)
end

do
  local a, b, c = random({ 3, 4 }, 1), random({ 4, 5 }, 2), random({ 5, 3 }, 3)
  local x, y = random({ 2, 3, 4 }, 4), random({ 2, 4, 3 }, 5)
  local square, cube = random({ 3, 3 }, 6), random({ 3, 2, 3 }, 7)
  for _, case in ipairs {
    { "ij->ij", a }, { "ij->ji", a }, { "ij->j", a }, { "ij->", a }, { "ii->i", square }, { "ii->", square },
    { "iji->j", cube }, { "iji->ij", cube }, { "ij,jk->ik", a, b }, { "ij,jk->ki", a, b }, { "ij,jk->", a, b },
    { "ij,ij->ij", a, a }, { "ij,ij->", a, a }, { "ij,kj->ik", a, a }, { "ij,kl->ijkl", a, b }, { "bij,bjk->bik", x, y },
    { "bij,bjk->ki", x, y }, { "ij,jk,ki->", a, b, c }, { "ij,jk,ki->i", a, b, c }, { "ij,jk,ki->kj", a, b, c },
    { "i,i,i->i", a[{ {}, 1 }], a[{ {}, 2 }], a[{ {}, 3 }] }, { "i,j,k->kji", a[1], a[2], a[3] },
    { "ii,ij->j", square, a }, { "ij,j->i", a[{ {}, { 1, 1 } }], random({ 4 }, 8) }, { "ij,ij->i", a, a[{ { 1, 1 } }] },
  } do
    close(tensor.einsum(table.unpack(case)), naive(table.unpack(case)), case[1])
  end
  -- without "->": letters that occur once, in order; "..." first
  close(tensor.einsum("ij,jk", a, b), a:matmul(b), "ij,jk")
  close(tensor.einsum("ba", a), a:t(), "ba")
  close(tensor.einsum("ii", square), naive("ii->", square), "ii")
  close(tensor.einsum("...ij,...jk", x, y), x:matmul(y), "...")
  close(tensor.einsum("...ij,...jk->...ik", x, y[1]), x:matmul(y[1]), "... of fewer dimensions")
  close(tensor.einsum("i...->...i", x), x:permute(2, 3, 1), "i...")
  close(tensor.einsum(" i j , j k -> i k ", a, b), a:matmul(b), "spaces")
  equal(tensor.einsum("ij,kl->ijkl", i64 { { 1, 2 } }, i64 { { 3 } }).dtype, "i64")
  equal(tensor.einsum("ij->j", i64 { { 1, 2 } }).dtype, "i64")
  equal(tensor.einsum("i,i->", tensor { 1, 2 }, tensor { 3, 4 }), 11.0)
  equal(tensor.einsum("ij,jk->ik", tensor.zeros { 2, 0 }, tensor.zeros { 0, 3 }).shape, { 2, 3 })
  -- derivatives
  local g = grad(function(p) return tensor.einsum("ij,jk,ki->", p.a, p.b, p.c) end, { a = a, b = b, c = c })
  close(g.a, b:matmul(c):t(), "by a")
  close(g.c, a:matmul(b):t(), "by c")
  close(grad(function(s) return tensor.einsum("ii->i", s):norm { p = 1 } end, square), tensor.eye(3):to("f64") * square:sign(), "diagonal")
  raises("\"l\" of the output stands in no operand", tensor.einsum, "ij->il", a)
  raises("part 1 of the equation names 3 dimensions; the operand has 2", tensor.einsum, "ijk->i", a)
  raises("has 1 part for 2 operands", tensor.einsum, "ij->i", a, b)
  raises("does not fit 1 operand", tensor.einsum, "ij,jk->i", a)
  raises("\"j\" has 3 places in operand 2, 4 before", tensor.einsum, "ij,jk->ik", a, square)
  raises("\"i\" has 4 places in operand 1, 3 before", tensor.einsum, "ii->i", a)
  raises("\"i\" stands for 1 and for 4 places of one operand", tensor.einsum, "ii->i", a[{ { 1, 1 } }])
  raises("\"j\" of the output stands there twice", tensor.einsum, "ij->jj", a)
  raises("\"1\" in the equation", tensor.einsum, "i1", a)
  raises("\"...\" twice in part 1", tensor.einsum, "......", a)
end

-- ---- running sums ----

do
  local x = f64 { { { 1, 2 }, { 3, 4 } }, { { 5, 6 }, { 7, 8 } } }
  same(x:cumsum(1), { { { 1.0, 2.0 }, { 3.0, 4.0 } }, { { 6.0, 8.0 }, { 10.0, 12.0 } } })
  same(x:cumsum(2), { { { 1.0, 2.0 }, { 4.0, 6.0 } }, { { 5.0, 6.0 }, { 12.0, 14.0 } } })
  same(x:cumsum(-1), { { { 1.0, 3.0 }, { 3.0, 7.0 } }, { { 5.0, 11.0 }, { 7.0, 15.0 } } })
  same(i64 { 1 << 60, 1 << 60 }:cumsum(1), { 1 << 60, 1 << 61 })
  equal(tensor.zeros({ 0, 3 }):cumsum(1).shape, { 0, 3 })
  same(grad(function(t) return (t:cumsum(1) * f64 { 1, 10, 100 }):sum() end, f64 { 1, 2, 3 }), { 111.0, 110.0, 100.0 })
  raises("dimension 4 of a tensor of rank 3", x.cumsum, x, 4)
  local m = model.open "examples/data/base.safetensors"
  local planned, there = m["fc1.weight"], m["fc1.weight"]:load()
  for d = 1, 2 do
    assert(planned:cumsum(d).planned)
    assert(tensor.equal(planned:cumsum(d), there:cumsum(d)))
    assert(tensor.equal((planned * 2):cumsum(d):sum(d), (there * 2):cumsum(d):sum(d)))
  end
  assert(tensor.equal(planned:masked_fill(planned:lt(0), 0), there:relu()))
  assert(tensor.equal(tensor.einsum("ij,kj->ki", planned, planned), tensor.einsum("ij,kj->ki", there, there)))
  assert(tensor.einsum("ij->i", planned).planned)
end

-- ---- by mask and by index ----

do
  local x = f64 { { 1, 2, 3 }, { 4, 5, 6 } }
  same(x:masked_fill(tensor { true, false, true }, -1), { { -1.0, 2.0, -1.0 }, { -1.0, 5.0, -1.0 } })
  equal(tensor { 1, 2 }:masked_fill(tensor { true, false }, 1 / 0).dtype, "f32")
  raises("expected a bool tensor", x.masked_fill, x, x, 0)
  raises("make the shape [2, 2, 3] of [2, 3]", x.masked_fill, x, tensor.ones({ 2, 1, 3 }, { dtype = "bool" }), 0)
  local order = x:argsort(2, { descending = true })
  same(x:take_along(2, order), { { 3.0, 2.0, 1.0 }, { 6.0, 5.0, 4.0 } })
  same(x:take_along(1, i64 { { 2, 1, 2 } }), { { 4.0, 2.0, 6.0 } })
  same(x:take_along(2, i64 { { 2 } }), { { 2.0 }, { 5.0 } })
  same(x:take_along(2, x:argmax(2, { keepdim = true })), { { 3.0 }, { 6.0 } })
  raises("an index of rank 1", x.take_along, x, 2, i64 { 1 })
  raises("dimension 1 has 2 places, the index 3", x.take_along, x, 2, i64 { { 1 }, { 1 }, { 1 } })
  raises("expected an integer tensor", x.take_along, x, 2, x)
  same(x:index_add(2, i64 { 3, 1, 3 }, tensor.ones { 2, 3 }), { { 2.0, 2.0, 5.0 }, { 5.0, 5.0, 8.0 } })
  same(x:index_add(1, i64 { 2 }, f64 { { 1, 1, 1 } }, { alpha = -2 }), { { 1.0, 2.0, 3.0 }, { 2.0, 3.0, 4.0 } })
  equal(i64 { 1, 2 }:index_add(1, i64 { 1 }, i64 { 3 }, { alpha = 2 }).dtype, "i64")
  raises("as many slices", x.index_add, x, 1, i64 { 1, 2 }, f64 { { 1, 1, 1 } })
  raises("index 3 is outside 1 to 2", x.index_add, x, 1, i64 { 3 }, f64 { { 1, 1, 1 } })
  raises("unknown option 'alfa'", x.index_add, x, 1, i64 { 1 }, f64 { { 1, 1, 1 } }, { alfa = 1 })
  same(x:repeat_interleave(2, 2)[1], { 1.0, 1.0, 2.0, 2.0, 3.0, 3.0 })
  same(x:repeat_interleave(2, 1), { { 1.0, 2.0, 3.0 }, { 1.0, 2.0, 3.0 }, { 4.0, 5.0, 6.0 }, { 4.0, 5.0, 6.0 } })
  same(x:repeat_interleave(2), { 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0, 6.0, 6.0 })
  same(x:repeat_interleave({ 2, 0, 1 }, 2), { { 1.0, 1.0, 3.0 }, { 4.0, 4.0, 6.0 } })
  equal(x:repeat_interleave(0, 1).shape, { 0, 3 })
  raises("2 counts for 3 slices", x.repeat_interleave, x, { 1, 2 }, 2)
  raises("count 1 is -1", x.repeat_interleave, x, { -1, 2 }, 1)
  raises("-1 repeats", x.repeat_interleave, x, -1, 1)
  same(x:pad({ { 0, 1 }, { 1, 0 } }, { value = 7 }), { { 7.0, 1.0, 2.0, 3.0 }, { 7.0, 4.0, 5.0, 6.0 }, { 7.0, 7.0, 7.0, 7.0 } })
  equal(i64 { 1 }:pad({ { 1, 0 } }).dtype, "i64")
  same(grad(function(t) return t:pad({ { 1, 1 } }, { value = 3 }):cumsum(1):sum() end, f64 { 1, 1 }), { 3.0, 2.0 })
end

-- ---- derivatives where something does not move ----

do
  local x, v = f64 { 1, -2, 3 }, f64 { 1, 10, 100 }
  -- forward through where, on either side and on both
  local mask = x:gt(0)
  same((jvp(function(t) return tensor.where(mask, t * t, 5) end, x, v)), { 2.0, 0.0, 600.0 })
  same((jvp(function(t) return tensor.where(mask, 5, t * t) end, x, v)), { 0.0, -40.0, 0.0 })
  same((jvp(function(t) return tensor.where(t:gt(0), t * t, -t) end, x, v)), { 2.0, -10.0, 600.0 })
  -- integer and bool operands are constants
  local n = i64 { 2, 3, 4 }
  same((jvp(function(t) return t * n + n end, x, v)), { 2.0, 30.0, 400.0 })
  same(grad(function(t) return (t * n):sum() end, x), { 2.0, 3.0, 4.0 })
  same(grad(function(t) return (t * t:gt(0)):sum() end, x), { 1.0, 0.0, 1.0 })
  same(grad(function(t) return (t * t:to("i64")):sum() end, x), { 1.0, -2.0, 3.0 })
  -- between dtypes the gradient comes back in the argument's
  local s = tensor { 1, -2, 3 }
  local g = grad(function(t) return (t:to("f64") * 2 * x):sum() end, s)
  equal(g.dtype, "f32")
  same(g, { 2.0, -4.0, 6.0 })
  equal((jvp(function(t) return t:to("f64") * x end, s, s)).dtype, "f64")
  equal(grad(function(t) return (t:to("f32") * s):sum() end, x).dtype, "f64")
  equal(grad(function(t) return (t:to("bf16"):to("f64") * x):sum() end, s).dtype, "f32")
  same((jvp(function(t) return t:to("i64") + 1 end, x, v)) * 1.0, { 0.0, 0.0, 0.0 })
  -- constants
  same(grad(function() return 3 end, x), { 0.0, 0.0, 0.0 })
  same((jvp(function() return s end, x, v)), { 0.0, 0.0, 0.0 })
  same((vjp(function() return s end, x, s)), { 0.0, 0.0, 0.0 })
  same(hvp(function(t) return t:sum() end, x, v), { 0.0, 0.0, 0.0 })
  same(grad(function(t) return t:sign():sum() + t:floor():sum() + t:argmax() end, x), { 0.0, 0.0, 0.0 })
  -- sorted elements take their derivatives with them
  same(grad(function(t) return (t:sort() * v):sum() end, x), { 10.0, 1.0, 100.0 })
  same((jvp(function(t) return (t:sort(1, { descending = true })) end, x, v)), { 100.0, 1.0, 10.0 })
  -- equal extremes share it
  same(grad(function(t) return t:max() end, f64 { 3, 1, 3 }), { 0.5, 0.0, 0.5 })
end

-- ---- refused by name, with what to do instead ----

do
  local q = f64 { { 0, -1 }, { 1, 0 } }
  raises("orthogonal_power is not differentiable: ", grad, function(t) return q:orthogonal_power(t):sum() end, 0.5)
  raises("take eigh, which is differentiable", grad, function(t) return (t:schur()):sum() end, q)
  raises("schur is not differentiable", jvp, function(t) return (t:schur()) end, q, q)
end

-- ---- linear algebra: a whitening by Cholesky and a nuclear norm, against closed forms ----

do
  local a = random({ 4, 3 }, 20)
  local function covariance(t) return t:t():matmul(t) end
  -- log det of a^T a by its Cholesky factor: the gradient is 2 a (a^T a)^-1
  local g = grad(function(t)
    local l = covariance(t):cholesky()
    return 2 * tensor.einsum("ii->i", l):log():sum()
  end, a)
  close(g, 2 * covariance(a):solve(a:t()):t(), "log det")
  -- the sum of singular values has the gradient of its polar factor
  close(grad(function(t) local _, s = t:svd() return s:sum() end, a), a:polar(), "nuclear norm")
  close(grad(function(t) return (covariance(t):eigh()):exp():sum() end, a),
    2 * a:matmul((function() local w, v = covariance(a):eigh() return (v * w:exp()):matmul(v:t()) end)()), "trace exp")
  -- q r is a again
  close(grad(function(t) local q, r = t:qr() return (q:matmul(r) * a):sum() end, a), a, "qr")
end
