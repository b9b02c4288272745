-- SPDX-License-Identifier: Apache-2.0
-- Extreme eigenvalues: against dense matrices, equal eigenvalues, restarts, blocks of parameters, memory, threads.
local check = dofile "tests/stdlib/bind/check.lua"
local curved = dofile "tests/stdlib/probe/curved.lua"
local f64 = { dtype = "f64" }
local function diagonal(list, dtype)
  return tensor.eye(#list):to(dtype or "f64") * tensor(list, { dtype = dtype or "f64" })
end

-- ---- known spectra, with and without restarts ----

for _, name in ipairs { "quadratic_decay", "quadratic_outliers", "quadratic_indefinite" } do
  local h, _, _, want = curved.quadratic(name)
  local spectrum, reversed = want.spectrum, {}
  for i, v in ipairs(spectrum) do reversed[#spectrum + 1 - i] = v end
  for _, basis in ipairs { 9, 40 } do
    local e = probe.eigenvalues(h, { top = 5, tolerance = 1e-10, basis = basis })
    check.equal(e.converged, 5)
    assert(curved.off(e.values, spectrum) < 1e-13, name)
    if basis == 9 and name ~= "quadratic_decay" then assert(e.restarts > 3) end
    e = probe.eigenvalues(h, { top = 3, tolerance = 1e-10, basis = basis, which = "smallest" })
    assert(curved.off(e.values, reversed) < 1e-12 or name ~= "quadratic_indefinite", name)
  end
end
do -- both ends by magnitude
  local e = probe.eigenvalues(diagonal { 1, -9, 3, 8, -2, 0.5 }, { top = 3, which = "magnitude" })
  assert(curved.off(e.values, { -9, 8, 3 }) < 1e-13)
end

-- ---- residuals are true, eigenvectors orthonormal ----

do
  local h = curved.quadratic "quadratic_outliers"
  for _, dtype in ipairs { "f64", "f32" } do
    local hd = h:to(dtype)
    local e = probe.eigenvalues(hd, { top = 6, tolerance = 1e-3, vectors = true, basis = 12 })
    local eps = dtype == "f64" and 1e-12 or 1e-4
    for i, v in ipairs(e.vectors) do
      check.near((hd:matmul(v) - e.values[i] * v):norm(), e.residuals[i], eps, "residual")
    end
    local v = tensor.stack(e.vectors, 1)
    assert((v:matmul(v:t()) - tensor.eye(6):to(dtype)):abs():max() < (dtype == "f64" and 1e-13 or 3e-6))
    check.near(probe.overlap(e, e), 1, 1e-5)
  end
end

-- ---- equal eigenvalues, zero, one number ----

do
  local function values(list, o) return probe.eigenvalues(diagonal(list), o).values end
  assert(curved.off(values({ 5, 5, 1 }, { top = 3 }), { 5, 5, 1 }) < 1e-13)
  assert(curved.off(values({ 5, 5, 5, 5, 2, 2, 0, 0, 0, 0 }, { top = 4 }), { 5, 5, 5, 5 }) < 1e-13)
  -- An invariant space is met just where the process looks: second copies lie beyond it.
  local pairs_of = {}
  for i = 1, 16 do pairs_of[i] = (i + 1) // 2 end
  assert(curved.off(values(pairs_of, { top = 3, basis = 12, tolerance = 1e-8 }), { 8, 8, 7 }) < 1e-12)
  check.equal(values({ 0, 0, 0 }, { top = 2 }), { 0.0, 0.0 })
  check.equal(values({ 7 }, { top = 4 }), { 7.0 })
  local wide = {}
  for i = 1, 300 do wide[i] = i <= 290 and 0 or i end -- of rank 10
  local e = probe.eigenvalues(diagonal(wide, "f32"), { top = 12 })
  for i = 1, 12 do check.near(e.values[i], i <= 10 and 301 - i or 0, 1e-4) end
end

-- ---- without re-orthogonalisation there would be ghosts ----

do -- 60 steps on a spectrum with outliers: each of the top three once
  local h = curved.quadratic "quadratic_outliers"
  local e = probe.eigenvalues(h:to "f32", { top = 10, products = 60, basis = 60, tolerance = 0 })
  assert(curved.off(e.values, curved.values.quadratic.quadratic_outliers.spectrum) < 1e-5)
end

-- ---- networks ----

for _, act in ipairs { "relu", "tanh" } do
  local f, theta, _, _, want = curved.tiny(act)
  local H <close> = f:linearize(theta)
  local e = probe.eigenvalues(H, { top = 20, tolerance = 1e-9, vectors = true })
  assert(curved.off(e.values, want.top20) < 1e-11, act)
  local smallest = probe.eigenvalues(H, { top = 5, tolerance = 1e-9, which = "smallest" })
  assert(curved.off(smallest.values, want.bottom5) < 1e-10, act)
  check.near(H:hvp(e.vectors[2]):dot(e.vectors[2]), e.values[2], 1e-11)
  check.equal(e.vectors[1]:mass(), 0.0)
  for i, k in ipairs(want.gradient_in_top_hessian_subspace.k) do
    local share, random = probe.share_in_top(e, H:grad(), { top = k })
    check.near(share, want.gradient_in_top_hessian_subspace.f_top[i], 1e-9)
    check.near(random, k / 194, 1e-15)
    local mean = 0 -- random vectors have that share, on the average
    for seed = 1, 30 do
      local v = theta:map(function(t) return tensor.normal(t.shape, seed, f64) end)
      mean = mean + probe.share_in_top(e, v, { top = k }) / 30
    end
    check.near(mean, random, 0.5 * random)
  end
  -- the matrix, its parts, and their difference
  local h, g = probe.matrix(H), probe.matrix(H, { kind = "ggn" })
  assert((h - h:t()):abs():max() < 1e-14 and g:eigh():min() > -1e-12)
  check.near((h * h):sum(), want.moments["tr_H^2"], 1e-10)
  check.near((h - g):norm(), want.frobenius_H_minus_G, 1e-11)
  check.near(h:matmul(h:matmul(h)):mul(tensor.eye(194):to "f64"):sum(), want.moments["tr_H^3"], 1e-9)
  local rest = probe.eigenvalues(H, { top = 3, kind = "residual", tolerance = 1e-9 })
  local values = (h - g):eigh():totable()
  assert(curved.off(rest.values, { values[194], values[193], values[192] }) < 1e-11)
  -- a layer's own block: theta's names are fc1.bias, fc1.weight, fc2.bias …
  local at = 1
  for _, name in ipairs(theta:names()) do
    local n = theta:info(name).numel
    if name == "fc2.weight" then
      local block = h[{ { at, at + n - 1 }, { at, at + n - 1 } }]
      assert((probe.matrix(H, { only = "^fc2.weight$" }) - block):abs():max() < 1e-14)
      local top = probe.eigenvalues(H, { only = "^fc2.weight$", top = 2, tolerance = 1e-9, vectors = true })
      local all = block:eigh():totable()
      assert(curved.off(top.values, { all[n], all[n - 1] }) < 1e-11)
      check.equal(top.vectors[1]:names(), { "fc2.weight" })
    end
    at = at + n
  end
end

-- ---- buffers are no parameters; chunks of the data do not matter ----

do
  local net = nn.sequential { nn.linear(3, 4), nn.batch_norm(4), "tanh", nn.linear(4, 2) }
  local theta = net:init { seed = 1, dtype = "f64" }
  local d = { x = tensor.normal({ 10, 3 }, 1, f64), y = tensor.arange(10) % 2 }
  local h = probe.matrix(net:loss(d):linearize(theta))
  check.equal(h.shape[1], 12 + 4 + 8 + 8 + 2)
  local again = probe.matrix(net:loss(d, { batch = 3 }):linearize(theta, { keep = false }))
  assert((h - again):abs():max() < 1e-14)
end

-- ---- an operator of one's own: a preconditioned Hessian ----

do
  local f, theta = curved.tiny "tanh"
  local H <close> = f:linearize(theta)
  local scale = theta * 0 + 2
  local own = { like = theta, title = "preconditioned Hessian", apply = function(v) return 2 * H:hvp(2 * v) end }
  local a, b = probe.eigenvalues(own, { top = 2, tolerance = 1e-8 }), probe.eigenvalues(H, { top = 2, tolerance = 1e-8 })
  check.near(a.values[2], 4 * b.values[2], 1e-10)
  assert(tostring(a):find "preconditioned Hessian" and scale)
end

-- ---- records ----

do
  local e = probe.eigenvalues(diagonal { 3, 2, 1 }, { top = 2 })
  assert(tostring(e):find("2 largest eigenvalues of the matrix (3 parameters, 3 products)", 1, true), tostring(e))
  local path = os.tmpname() .. ".csv"
  e:save(path)
  check.equal(io.open(path):read "l", "index,value,residual")
  os.remove(path)
  assert(e:plot { title = "all" }:svg():find ">all<")
  check.equal(e:plot({ theme = "dark" }).theme, "dark")
  check.raises("unknown option 'tite'", e.plot, e, { tite = "x" })
end

-- ---- what is refused ----

local big = { like = tensor.zeros(4000000), apply = function(v) return v end }
local ok, err = pcall(probe.eigenvalues, big, { basis = 100 })
assert(not ok and err:find "100 vectors of 4000000 numbers %(f32%) take 1.73 GB and %d+ MB of memory are left; basis = %d+ would fit", err)
local fit = tonumber(err:match "basis = (%d+) would fit")
assert(fit > 4 and (fit + 8) * 16e6 <= 400 * 2 ^ 20, fit)
check.near(probe.eigenvalues(big, { basis = fit, top = 1, products = 2 }).values[1], 1, 1e-5)
-- Eigenvectors lie beside the basis at the end, which is said before.
check.raises("would fit", probe.eigenvalues, big, { basis = fit, top = 8, products = 8, vectors = true })
check.raises("12 eigenvalues need at least as many products; products = 10", probe.eigenvalues, tensor.eye(12),
  { top = 20, products = 10 })
check.raises("which = \"top\"", probe.eigenvalues, diagonal { 1, 2 }, { which = "top" })
check.raises("expected f:linearize(theta), a symmetric matrix", probe.eigenvalues, 3)
check.raises("expected a square matrix", probe.eigenvalues, tensor.zeros { 2, 3 })
check.raises("kind and only are of f:linearize", probe.eigenvalues, diagonal { 1, 2 }, { kind = "ggn" })
check.raises("gave NaN or infinity", probe.eigenvalues, tensor { { 1, 0 / 0 }, { 0 / 0, 1 } })
check.raises("vectors = true", probe.share_in_top, probe.eigenvalues(diagonal { 1, 2 }), tensor { 1, 2 })
do
  local f, theta = curved.tiny "relu"
  local H = f:linearize(theta)
  check.raises("kind = \"fisher\"", probe.eigenvalues, H, { kind = "fisher" })
  H:close()
  check.raises("closed", probe.eigenvalues, H)
end
