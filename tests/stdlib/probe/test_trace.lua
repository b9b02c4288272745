-- SPDX-License-Identifier: Apache-2.0
-- Trace and diagonal: exact where they are exact, within their standard errors elsewhere, and errors that are honest.
local check = dofile "tests/stdlib/bind/check.lua"
local curved = dofile "tests/stdlib/probe/curved.lua"

-- A diagonal matrix has no noise at all.
do
  local h = tensor.eye(5):to "f64" * tensor({ 1, 2, 3, 4, -5 }, { dtype = "f64" })
  local r = probe.trace(h, { samples = 3 })
  check.near(r.trace, 5, 1e-13)
  check.near(r.error, 0, 1e-13)
  local d, e = probe.diagonal(h, { samples = 2 })
  check.tensor(d, { 1.0, 2.0, 3.0, 4.0, -5.0 })
  check.equal(e:abs():max(), 0.0)
end

-- Over forty seeds: no bias, and errors of the size that is said.
local h, _, _, want = curved.quadratic "quadratic_outliers"
for method, samples in pairs { hutchinson = 40, ["hutch++"] = 30 } do
  local z, squares = 0, 0
  for seed = 1, 40 do
    local r = probe.trace(h, { method = method, samples = samples, seed = seed })
    local s = (r.trace - want.trace) / r.error
    z, squares = z + s, squares + s * s
    check.equal(r.products, samples)
  end
  assert(math.abs(z / 40) < 0.6, method .. ": biased by " .. z / 40 .. " standard errors")
  assert(math.sqrt(squares / 40) > 0.6 and math.sqrt(squares / 40) < 1.6, method .. ": errors are off by " .. math.sqrt(squares / 40))
end

-- Hutch++ is exact where its basis holds everything, and beats Hutchinson where few eigenvalues make the trace.
do
  local decay, _, _, w = curved.quadratic "quadratic_decay"
  check.near(probe.trace(decay, { method = "hutch++", samples = 120 }).trace, w.trace, 1e-10)
  local worst = { hutchinson = 0, ["hutch++"] = 0 }
  for seed = 1, 20 do
    for method in pairs(worst) do
      local r = probe.trace(decay, { method = method, samples = 99, seed = seed })
      worst[method] = math.max(worst[method], math.abs(r.trace / w.trace - 1))
    end
  end
  assert(worst["hutch++"] < 0.01 and worst.hutchinson > 0.05)
end

for _, act in ipairs { "relu", "tanh" } do
  local f, theta, d, net, w = curved.tiny(act)
  local H <close> = f:linearize(theta)
  for kind, value in pairs { hessian = w.trace_H, ggn = w.trace_G } do
    local r = probe.trace(H, { samples = 100, kind = kind })
    assert(math.abs(r.trace - value) < 4 * r.error, act .. kind)
    r = probe.trace(H, { samples = 99, kind = kind, method = "hutch++" })
    assert(math.abs(r.trace - value) < 4 * r.error and r.error < 0.02 * value, act .. kind)
  end
  -- The Fisher information is the Gauss-Newton matrix: its trace is exact, and of ReLU networks the Hessian's too.
  check.near(probe.fisher_trace(net, theta, d).trace[1], w.trace_G, 1e-12 * w.trace_G)
  local exact = (probe.matrix(H) * tensor.eye(194):to "f64"):sum(1)
  local diagonal, err = probe.diagonal(H, { samples = 400 })
  local at, far = 1, 0
  for _, name in ipairs(theta:names()) do
    local n = theta:info(name).numel
    local z = ((diagonal:tensor(name):flatten() - exact[{ { at, at + n - 1 } }]) / err:tensor(name):flatten():clamp(1e-12, 1e9)):abs()
    assert(z:max() < 5, name)
    far, at = far + z:gt(2):to "i64":sum(), at + n
  end
  assert(far > 0 and far < 0.12 * 194, far)
  check.equal(diagonal:mass(), 0.0)
  local part = probe.trace(H, { samples = 50, only = "^fc3" })
  check.equal(part.n, 36)
end

do
  local r = probe.trace(h, { samples = 10, seed = 3 })
  check.equal(probe.trace(h, { samples = 10, seed = 3 }).trace, r.trace)
  assert(tostring(r):find "^trace of the matrix: [%d.]+, standard error [%d.]+ %(hutchinson, 10 products, 60 parameters%)$", tostring(r))
  assert(r:plot():svg():find "running mean")
  check.equal(r:plot({ theme = "dark" }).theme, "dark")
  check.raises("method = \"xtrace\"", probe.trace, h, { method = "xtrace" })
  check.raises("samples is a whole number, at least 6", probe.trace, h, { method = "hutch++", samples = 5 })
end

-- Fisher information of several models, by tensor.
do
  local _, theta, d, net = curved.tiny "relu"
  local r = probe.fisher_trace(net, { theta, 0.5 * theta }, d, { kind = "empirical", steps = { 10, 20 } })
  local sum = 0
  for _, name in ipairs(r.names) do sum = sum + r.tensors[name][2] end
  check.near(sum, r.trace[2], 1e-12)
  local norms = probe.example_norms(net, theta, d)
  check.near(r.trace[1], (norms * norms):sum() / 48, 1e-11)
  check.equal(r.step, { 10, 20 })
  assert(r:plot():svg():find "Fisher")
end
