-- SPDX-License-Identifier: Apache-2.0
-- Sharpness: quadratics by the secular equation, small networks, invariance under rescaling, and training at the edge.
local check = dofile "tests/stdlib/bind/check.lua"
local curved = dofile "tests/stdlib/probe/curved.lua"
local f64 = { dtype = "f64" }

-- ---- quadratics ----

for _, name in ipairs { "quadratic_decay", "quadratic_outliers", "quadratic_indefinite" } do
  local h, f, x, want, b = curved.quadratic(name)
  check.near(f(x), want.f_at_x, 1e-11)
  local r = probe.sharpness(f, x, { rho = want.rho, steps = 400 })
  check.near(r.value, want.worst_l2_sharpness_at_x, 1e-9 * want.worst_l2_sharpness_at_x)
  check.near(r.direction:norm(), want.rho, 1e-12)
  check.near(probe.sam(f, x, { rho = want.rho }).value, want.sam_one_step_at_x, 1e-11)
  local average = probe.average_sharpness(f, x, { rho = 1, samples = 400 })
  assert(math.abs(average.value - want.average_gaussian_sigma1) < 4 * average.error, name)
  if name == "quadratic_outliers" then -- at a minimum: rho² / 2 times the top eigenvalue
    local least = h:solve(b)
    r = probe.sharpness(f, least, { rho = want.rho, steps = 400 })
    check.near(r.value, want.worst_l2_sharpness_at_minimum, 1e-9)
    check.near(f(least), want.minimum_value, 1e-10 * math.abs(want.minimum_value))
    r = probe.sharpness(f, least, { rho = want.rho, steps = 400, method = "apgd" })
    check.near(r.value, want.worst_l2_sharpness_at_minimum, 1e-6 * r.value)
  end
end

do -- the box of a separable function: its corners
  local function f(v) return (v * v * tensor({ 4, 1, 9 }, f64)):sum() / 2 end
  local r = probe.sharpness(f, tensor({ 0, 0, 0 }, f64), { rho = 0.1, norm = "linf" })
  check.near(r.value, 14 * 0.01 / 2, 1e-14)
  r = probe.sharpness(f, tensor({ 1, 0, 2 }, f64), { rho = 0.1, norm = "linf", adaptive = true })
  check.near(r.value, (4 * (1.1 ^ 2 - 1) + 9 * (2.2 ^ 2 - 4)) / 2, 1e-13)
  check.equal(r.direction:totable()[2], 0.0) -- what is zero stays zero
  -- Keskar's box, and in a basis of as many directions as there are it can only differ by its shape
  r = probe.epsilon_sharpness(f, tensor({ 1, 0, -2 }, f64), { epsilon = 0.01 })
  local base = (4 + 36) / 2
  local most = (4 * 1.02 ^ 2 + 0.01 ^ 2 + 9 * 2.03 ^ 2) / 2
  check.near(r.value, 100 * (most - base) / (1 + base), 1e-11)
  check.near(r.most, most, 1e-12)
  local one = probe.epsilon_sharpness(f, tensor({ 1, 0, -2 }, f64), { epsilon = 0.01, basis = 2, seed = 3 })
  assert(one.value > 0 and one.basis == 2)
end

-- ---- networks ----

for _, act in ipairs { "relu", "tanh" } do
  local f, theta, d, net, want = curved.tiny(act)
  local H <close> = f:linearize(theta)
  local top = probe.eigenvalues(H, { top = 1, tolerance = 1e-9, vectors = true }).vectors
  for _, w in ipairs { want.sharpness[1], want.sharpness[3] } do
    check.near(probe.sam(f, theta, { rho = w.rho }).value, w.sam_one_step, 1e-12)
    check.near(probe.sam(f, theta, { rho = w.rho, adaptive = true }).value, w.asam_one_step_eta0, 1e-12)
    local o = { rho = w.rho, directions = top, restarts = 2, steps = 60 }
    local r = probe.sharpness(f, theta, o)
    assert(r.value >= w.worst_l2 - 1e-6, r.value)
    check.near(f(theta + r.direction) - f(theta), r.value, 1e-12)
    check.near(r.direction:norm(), w.rho, 1e-9)
    local apgd = probe.sharpness(f, theta, { rho = w.rho, directions = top, restarts = 2, method = "apgd" })
    assert(apgd.value >= w.worst_l2 - 1e-6 and apgd.direction:norm() <= w.rho * (1 + 1e-9), apgd.value)
    o.adaptive = true
    r = probe.sharpness(f, theta, o)
    assert(r.value >= w.worst_adaptive_l2 - 1e-6, r.value)
    r = probe.average_sharpness(f, theta, { rho = w.rho, adaptive = true, samples = 200 })
    local err = math.sqrt(r.error ^ 2 + w.adaptive_average_stderr ^ 2)
    assert(math.abs(r.value - w.adaptive_average_mean) < 4 * err)
  end
  -- parts of m rows: the mean of what each has by itself
  local parts, sum = probe.sharpness(f, theta, { m = 20, restarts = 1 }), 0
  for k = 0, 2 do
    local rows = { 20 * k + 1, math.min(20 * k + 20, 48) }
    sum = sum + probe.sharpness(net:loss { x = d.x[{ rows }], y = d.y[{ rows }] }, theta, { restarts = 1 }).value
  end
  check.near(parts.value, sum / 3, 1e-12)
  assert(parts.value > want.sharpness[1].worst_l2 and #parts.parts == 3)
end

do -- auto-PGD by hand: four steps on the line, which looks back after each (0.22, 0.41, 0.57, 0.7, 0.8 of them)
  local function f(v) return (v - 0.25 * v * v * v * v):sum() end -- rises to 1, where it turns
  local r = probe.sharpness(f, tensor({ 0 }, f64), { rho = 2, restarts = 0, steps = 4, method = "apgd" })
  local z, before, value, slope, best, at, length, gains, seen, old, halved = 2, 2, -2, -7, -2, 2, 2, 0, 0, -2, true
  local function clip(v) return math.max(-2, math.min(2, v)) end
  for k = 1, 4 do
    local n = clip(z + (slope > 0 and 2 or -2) * length)
    if k > 1 then n = clip(z + 0.75 * (n - z) + 0.25 * (z - before)) end
    before, z = z, n
    local v = n - 0.25 * n ^ 4
    gains, value, slope = gains + (v > value and 1 or 0), v, 1 - n ^ 3
    if v > best then best, at = v, n end
    if k == 1 or k == 2 or k == 3 then -- ceil of 0.22, 0.41, 0.57 times 4: 1, 2, 3
      local few, still = gains < 0.75 * (k - seen), not halved and old == best
      halved = few or still
      if halved then length, z, value, slope = length / 2, at, best, 1 - at ^ 3 end
      gains, seen, old = 0, k, best
    end
  end
  check.near(r.value, best, 1e-12)
  assert(best > 0 and best < 0.75, best)
  check.raises("method = \"pgd\"", probe.sharpness, f, tensor { 0 }, { method = "pgd" })
end

-- Rescaling a ReLU network leaves the function and what is adaptive as they were.
do
  local f, theta = curved.tiny "relu"
  local plain, adaptive, asam, average = {}, {}, {}, {}
  for i, c in ipairs { 1, 10, 100 } do
    local list = {}
    for _, name in ipairs(theta:names()) do
      local t = theta:tensor(name)
      list[#list + 1] = { name, name:find "^fc1" and t * c or name == "fc2.weight" and t / c or t }
    end
    local m = model.new(list)
    check.near(f(m), f(theta), 1e-12)
    plain[i], asam[i] = probe.sam(f, m).value, probe.sam(f, m, { rho = 0.2, adaptive = true }).value
    adaptive[i] = probe.sharpness(f, m, { rho = 0.2, adaptive = true, restarts = 0 }).value
    average[i] = probe.average_sharpness(f, m, { rho = 0.1, adaptive = true, samples = 5 }).value
  end
  assert(plain[3] > 10 * plain[1])
  for i = 2, 3 do
    check.near(asam[i], asam[1], 1e-10)
    check.near(adaptive[i], adaptive[1], 1e-8)
    check.near(average[i], average[1], 1e-10)
  end
end

-- ---- only, records, what is refused ----

do
  local f, theta = curved.tiny "relu"
  local r = probe.sharpness(f, theta, { only = "fc3" })
  check.equal(r.direction:names(), theta:only "fc3":names())
  assert(r.value < probe.sharpness(f, theta).value)
  assert(tostring(r):find "a lower bound; 5 starts" and r.bound == "lower")
  check.raises("rho is a number above 0", probe.sharpness, f, theta, { rho = 0 })
  check.raises("norm = \"l1\"", probe.sharpness, f, theta, { norm = "l1" })
  check.raises("expected net:loss(data) or a function", probe.sam, 3, theta)
  check.raises("m is of a loss over data", probe.sam, function(t) return t:sum() end, tensor { 1 }, { m = 3 })
  check.raises("numbers, the parameters 194", probe.sharpness, f, theta, { directions = { theta:only "fc3" } })
end

-- ---- the edge of stability: full-batch descent sharpens until 2 / lr, and stays there ----

do
  local d = data.two_moons { n = 100, noise = 0.2, seed = 1 }
  local net = nn.mlp { 2, 16, 16, 2, act = "tanh" }
  local e = probe.edge(net:loss(d), { every = 25 })
  train.fit(net, d, { steps = 600, batch = 100, optimiser = "sgd", lr = 0.4, seed = 1, quiet = true,
    callbacks = { step = e.watch } })
  check.equal(#e.step, 24)
  check.equal(e.threshold[1], 5.0)
  assert(e.top[1] < 4 and e.loss[24] < e.loss[1], e.top[1])
  for i = 12, 24 do assert(e.top[i] > 4 and e.top[i] < 7.5, e.top[i]) end
  assert(e:plot():svg():find "top eigenvalue" and tostring(e):find "edge of stability: 24 steps")
  check.near(probe.edge(net:loss(d), { momentum = 0.9 }).momentum, 0.9, 0)
end

-- Stopped and gone on with, from a checkpoint of the training or anew: the bytes of a run that never stopped.
do
  local kit = dofile "tests/stdlib/probe/resumes.lua"
  local d = data.two_moons { n = 60, noise = 0.2, seed = 1 }
  local net = nn.mlp { 2, 6, 2, act = "tanh" }
  local saved, journal = kit.fresh() .. ".safetensors", kit.fresh()
  local function run(kept, stop, resume, lr)
    local e = probe.edge(net:loss(d), { every = 5, journal = kept })
    local function watch(info)
      e.watch(info)
      if info.step == stop then error("STOP", 0) end
    end
    local ok, why = pcall(train.fit, net, d, { steps = 40, batch = 60, optimiser = "sgd", lr = lr or 0.4, seed = 1,
      quiet = true, callbacks = { step = watch }, checkpoint = { path = saved, every = 7 }, resume = resume })
    if not ok and why ~= "STOP" then error(why, 0) end
    return kit.text(e.step, e.loss, e.rate, e.threshold, e.top, e.residual)
  end
  local want = run()
  local part = run(journal, 18)
  assert(part ~= want and want:sub(1, 5) == part:sub(1, 5))
  check.equal(run(journal, nil, true), want) -- from step 14
  check.equal(run(journal), want) -- all of it from the journal
  check.raises("the journal is of another training", run, journal, nil, nil, 0.3)
  kit.remove(journal)
  run(journal, 27)
  check.equal(run(journal), want) -- anew
  kit.remove(journal)
  os.remove(saved)
end
