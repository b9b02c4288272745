-- SPDX-License-Identifier: Apache-2.0
-- Pseudo-inverses by the four conditions of Penrose, least squares by their normal equations, ranks by construction,
-- determinants by Leibniz' formula; the derivatives by closed forms.
local check = require "check"
local equal, near, raises, same = check.equal, check.near, check.raises, check.tensor

local function random(shape, seed) return tensor.randn(shape, seed, { dtype = "f64" }) end
local function close(got, want, what, tolerance)
  equal(got.shape, want.shape, what)
  near(tensor.abs(got - want):max(), 0, (tolerance or 1e-11) * (1 + tensor.abs(want):max()), what)
end
local function T(x) return x:transpose(-2, -1) end

-- ---- pseudo-inverses, least squares, ranks ----

do
  local cases = {
    tall = { random({ 5, 3 }, 1), 3 }, wide = { random({ 3, 5 }, 2), 3 }, square = { random({ 4, 4 }, 3), 4 },
    deficient = { random({ 5, 2 }, 4):matmul(random({ 2, 4 }, 5)), 2 }, zero = { tensor.zeros({ 3, 2 }, { dtype = "f64" }), 0 },
    one = { tensor({ { 4 } }, { dtype = "f64" }), 1 }, equal = { tensor.eye(3, { dtype = "f64" }), 3 },
  }
  for name, case in pairs(cases) do
    local a, p = case[1], case[1]:pinv()
    local ap, pa = a:matmul(p), p:matmul(a)
    close(ap:matmul(a), a, name .. ": a p a")
    close(pa:matmul(p), p, name .. ": p a p")
    close(T(ap), ap, name .. ": a p is symmetric")
    close(T(pa), pa, name .. ": p a is symmetric")
    equal(a:matrix_rank(), case[2], name)
    local b = random({ a.shape[1], 2 }, 6)
    close(a:lstsq(b), p:matmul(b), name .. ": lstsq")
    close(T(a):matmul(a:matmul(a:lstsq(b)) - b), tensor.zeros({ a.shape[2], 2 }), name .. ": normal equations")
    close(a:lstsq(b[{ {}, 1 }]), p:matmul(b[{ {}, 1 }]), name .. ": of a vector")
  end
  local batch = random({ 2, 4, 3 }, 7)
  for k = 1, 2 do close(batch:pinv()[k], batch[k]:pinv(), "a batch") end
  same(batch:matrix_rank(), { 3, 3 })
  equal(batch:lstsq(random({ 2, 4, 2 }, 8)).shape, { 2, 3, 2 })
  local d = tensor({ 4, 1, 0.25 }):diag()
  same(d:pinv { rtol = 0.5 }, { { 0.25, 0.0, 0.0 }, { 0.0, 0.0, 0.0 }, { 0.0, 0.0, 0.0 } })
  same(d:pinv { atol = 0.5 }, { { 0.25, 0.0, 0.0 }, { 0.0, 1.0, 0.0 }, { 0.0, 0.0, 0.0 } })
  equal(d:matrix_rank { rtol = 0.1 }, 2)
  equal(d:matrix_rank { atol = 2 }, 1)
  equal(d:pinv().dtype, "f32")
  for size, rank in pairs { [50] = 1, [300] = 2 } do -- of max(m, n) * epsilon = 100 epsilon
    local a = tensor.eye(2, 100, { dtype = "f64" })
    a:set_({ 2, 2 }, size * 2 ^ -52)
    equal(a:matrix_rank(), rank)
  end
  raises("tensor:pinv: expected a tensor of rank 2 or more, got rank 1", function() tensor.pinv(tensor { 1 }) end)
  raises("tensor:pinv: the matrix has no elements", function() tensor.pinv(tensor.zeros { 0, 3 }) end)
  raises("unknown option 'rcond'", function() d:pinv { rcond = 1 } end)
  raises("tensor:lstsq: a has 3 rows, b 2", function() d:lstsq(tensor { 1, 2 }) end)
end

-- ---- determinants ----

-- Over all permutations of columns.
local function leibniz(a, row, taken)
  row, taken = row or 1, taken or {}
  local n = #a
  if row > n then return 1 end
  local sum = 0
  for c = 1, n do
    if not taken[c] then
      local passed = 0 -- columns to the left of c that are still free
      for k = 1, c - 1 do passed = passed + (taken[k] and 0 or 1) end
      taken[c] = true
      sum = sum + (passed % 2 == 0 and 1 or -1) * a[row][c] * leibniz(a, row + 1, taken)
      taken[c] = nil
    end
  end
  return sum
end

do
  for n = 1, 5 do
    for seed = 1, 6 do
      local a = random({ n, n }, 10 * n + seed)
      local want = leibniz(a:totable())
      local sign, log = a:slogdet()
      near(a:det(), want, 1e-12 * (1 + math.abs(want)), "det of size " .. n)
      equal(sign, want > 0 and 1.0 or -1.0)
      near(log, math.log(math.abs(want)), 1e-11)
      local whole = a:logdet()
      if want > 0 then equal(whole, log) else equal(whole, 0 / 0) end
    end
  end
  local sign, log = tensor.zeros({ 2, 2 }):slogdet()
  equal(sign, 0.0)
  equal(log, -math.huge)
  equal((tensor { { 1, 0 }, { 0, 0 } }:slogdet()), 0.0)
  equal(tensor.zeros({ 2, 2 }):det(), 0.0)
  equal(tensor.zeros({ 2, 2 }):logdet(), -math.huge)
  equal(tensor { { 0, 1 }, { 1, 0 } }:slogdet(), -1.0)
  sign, log = (tensor.eye(400, { dtype = "f64" }) * 100):slogdet()
  equal(sign, 1.0)
  near(log, 400 * math.log(100), 1e-9, "beyond the range of numbers")
  local batch = random({ 3, 4, 4 }, 90)
  for k = 1, 3 do near(batch:det()[k], batch[k]:det(), 1e-12) end
  equal(batch:logdet().shape, { 3 })
  raises("tensor:det: expected square matrices, got 2 by 3", function() tensor.det(tensor.zeros { 2, 3 }) end)
  raises("tensor:slogdet: the matrix has no elements", function() tensor.slogdet(tensor.zeros { 0, 0 }) end)
end

-- ---- derivatives ----

do
  for seed = 1, 4 do
    local a, v = random({ 4, 4 }, 30 + seed), random({ 4, 4 }, 40 + seed)
    local turned = T(a:solve(tensor.eye(4, { dtype = "f64" })))
    close(grad(function(t) return t:det() end, a), turned * a:det(), "det", 1e-9)
    close(grad(function(t) return (select(2, t:slogdet())) end, a), turned, "log |det|", 1e-9)
    -- log det (a^T a) is twice that; its Hessian by the closed form -2 (a^-T v^T a^-T)
    local function f(t) return T(t):matmul(t):logdet() end
    close(grad(f, a), 2 * turned, "logdet", 1e-7)
    close(hvp(function(t) return (select(2, t:slogdet())) end, a, v), -turned:matmul(T(v)):matmul(turned), "Hessian", 1e-7)
  end
  -- d p = -p da p + p p^T da^T (1 - a p) + (1 - p a) da^T p^T p (Golub and Pereyra 1973)
  for name, shape in pairs { tall = { 5, 3 }, wide = { 3, 5 }, square = { 4, 4 } } do
    local a, v = random(shape, 50), random(shape, 51)
    local p = a:pinv()
    local function one(n) return tensor.eye(n, { dtype = "f64" }) end
    local want = -p:matmul(v):matmul(p) + p:matmul(T(p)):matmul(T(v)):matmul(one(shape[1]) - a:matmul(p))
      + (one(shape[2]) - p:matmul(a)):matmul(T(v)):matmul(T(p)):matmul(p)
    close((jvp(function(t) return t:pinv() end, a, v)), want, name .. ": pinv forwards", 1e-9)
    local w, b = random({ shape[2], shape[1] }, 52), random({ shape[1] }, 53)
    near((grad(function(t) return (t:pinv() * w):sum() end, a) * v):sum(), (want * w):sum(), 1e-9, name .. ": pinv")
    near((grad(function(t) return (t:lstsq(b) * w[{ {}, 1 }]):sum() end, a) * v):sum(),
      (want:matmul(b) * w[{ {}, 1 }]):sum(), 1e-9, name .. ": lstsq")
    close(grad(function(t) return (a:lstsq(t) * w[{ {}, 1 }]):sum() end, b), T(p):matmul(w[{ {}, 1 }]), name .. ": by b")
  end
end
print "ok"
