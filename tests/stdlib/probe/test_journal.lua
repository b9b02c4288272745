-- SPDX-License-Identifier: Apache-2.0
-- Long probes with a journal: stopped at any place and resumed, they give the bytes of a run that never stopped. Here a
-- stop is an error raised in what is measured or in the schedule of the rate; the signal is in tests/cli/test_probes.sh.
local check = dofile "tests/stdlib/bind/check.lua"
local kit = dofile "tests/stdlib/probe/resumes.lua"
local resumes, text, fresh, read, write = kit.resumes, kit.text, kit.fresh, kit.read, kit.write

-- ---- curvature: products are counted ----

local function operator(tick)
  local d = tensor.randn({ 40, 40 }, 3, { dtype = "f64" })
  local h = d + d:t()
  return { like = tensor.zeros({ 40 }, { dtype = "f64" }), apply = function(v)
    tick()
    return h:matmul(v)
  end }
end

resumes(function(j, tick) return text(probe.trace(operator(tick), { samples = 20, journal = j })) end, { 7, 5 })
resumes(function(j, tick)
  return text(probe.trace(operator(tick), { samples = 21, method = "hutch++", journal = j }))
end, { 4, 6, 7 })
resumes(function(j, tick)
  return text(probe.diagonal(operator(tick), { samples = 12, journal = j }))
end, { 5 })
resumes(function(j, tick) return text(probe.matrix(operator(tick), { journal = j })) end, { 9, 20 })
resumes(function(j, tick)
  return text(probe.spectrum(operator(tick), { steps = 10, starts = 4, journal = j }))
end, { 4, 14, 10 })
resumes(function(j, tick) -- with restarts
  local r = probe.eigenvalues(operator(tick), { top = 4, basis = 9, vectors = true, journal = j })
  assert(r.restarts > 2 and r.converged == 4)
  return text(r, r.vectors)
end, { 3, 12, 11 }, 1)

-- ---- sharpness: values are counted ----

local function bowl(tick)
  return function(x)
    tick()
    return (x * x * tensor { 4, 1, 2 }):sum() / 2 + x[1]
  end
end

local theta = tensor { 0.5, -1, 2 }

resumes(function(j, tick)
  local r = probe.sharpness(bowl(tick), theta, { rho = 0.1, steps = 12, restarts = 2, journal = j })
  return text(r, r.direction)
end, { 9, 15 }, 1)
resumes(function(j, tick)
  local r = probe.sharpness(bowl(tick), theta, { rho = 0.1, steps = 12, restarts = 1, method = "apgd", journal = j })
  return text(r, r.direction)
end, { 9, 8 }, 1)
resumes(function(j, tick)
  return text(probe.average_sharpness(bowl(tick), theta, { samples = 10, journal = j }))
end, { 5 }, 1)
resumes(function(j, tick)
  local bowl_of = bowl(tick)
  local r = probe.radius(function(m) return bowl_of(m["x"]):item() end, model.new { { "x", theta:reshape { 3, 1 } } },
    { directions = 3, tolerance = 0.1, journal = j })
  return text(r)
end, { 14 }, 14)
resumes(function(j, tick)
  return text(probe.epsilon_sharpness(bowl(tick), theta, { steps = 10, restarts = 1, journal = j }))
end, { 8 }, 1)

local d = data.two_moons { n = 60, seed = 1 }
local net = nn.mlp { 2, 6, 2 }
local m1, m2 = net:init { seed = 1 }, net:init { seed = 2 }

-- ---- values: what is written is what is read ----

do
  local path = fresh()
  local odd = { 0 / 0, math.huge, -math.huge, -0.0, 5e-324, 0.1, 1 / 3 }
  local H = { like = tensor.zeros({ 1 }, { dtype = "f64" }) }
  for _, v in ipairs(odd) do
    H.apply = function() return tensor({ v }, { dtype = "f64" }) end
    local want = probe.trace(H, { samples = 2 }).samples
    local first = probe.trace(H, { samples = 2, journal = path }).samples
    local second = probe.trace(H, { samples = 2, journal = path }).samples
    for k = 1, 2 do
      check.equal(("%a"):format(first[k]), ("%a"):format(want[k]))
      check.equal(("%a"):format(second[k]), ("%a"):format(want[k]))
    end
    kit.remove(path)
  end
end

-- ---- what is refused ----

do
  local path = fresh()
  local h = tensor { { 3, 1 }, { 1, 2 } }
  probe.trace(h, { samples = 4, journal = path })
  local wrong = "is the journal of another run"
  check.raises(wrong, probe.trace, h, { samples = 5, journal = path })
  check.raises(wrong, probe.trace, h, { samples = 4, seed = 1, journal = path })
  check.raises(wrong, probe.trace, h + 1, { samples = 4, journal = path })
  check.raises(wrong, probe.diagonal, h, { samples = 4, journal = path })
  kit.remove(path)
  probe.fisher(net, m1, d, { journal = path })
  check.raises(wrong, probe.fisher, net, m2, d, { journal = path })
  check.raises(wrong, probe.fisher, net, m1, d:take(59), { journal = path })
  check.raises(wrong, probe.fisher, nn.mlp { 2, 6, 2, act = "tanh" }, m1, d, { journal = path })
  kit.remove(path)
  check.raises("journal is the path", probe.trace, h, { journal = 3 })
  -- Another file is left as it is.
  write(path, "a diary")
  check.raises("not a line of a journal", probe.trace, h, { journal = path })
  check.equal(read(path), "a diary")
  -- A line that lacks its end only.
  os.remove(path)
  probe.trace(h, { samples = 3, journal = path })
  local whole = read(path)
  write(path, whole:sub(1, -2))
  probe.trace(h, { samples = 3, journal = path })
  check.equal(read(path), whole)
  kit.remove(path)
end
