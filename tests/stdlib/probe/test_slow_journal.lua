-- SPDX-License-Identifier: Apache-2.0
-- As test_journal.lua: curves, and what trains or goes over data.
local check = dofile "tests/stdlib/bind/check.lua"
local kit = dofile "tests/stdlib/probe/resumes.lua"
local resumes, text, fresh = kit.resumes, kit.text, kit.fresh

-- ---- curves ----

local function wells(tick)
  return function(x)
    tick()
    local u, v = x[1], x[2]
    return (u ^ 2 - 1) ^ 2 + 2 * (v - 0.8 * (1 - u ^ 2)) ^ 2
  end
end

local a, b = tensor { -1, 0 }, tensor { 1, 0 }

resumes(function(j, tick)
  local c = probe.curve(wells(tick), a, b, { steps = 20, bends = 2, optimiser = "adam", lr = 0.02, journal = j })
  return text(c.losses, c.points)
end, { 7, 6 })
resumes(function(j, tick)
  local c = probe.neb(wells(tick), a, b, { cycles = { { steps = 4, lr = 0.02 }, { steps = 3, lr = 0.01 } },
    samples = 2, climb = 4, journal = j })
  return text({ c.loss, c.t, c.saddle }, c.points)
end, { 16, 30, 30 }, 30)
resumes(function(j, tick)
  local r = probe.saddles(wells(tick), { a, b, tensor { 0, 2 } }, { cycles = { { steps = 5, lr = 0.02 } },
    samples = 2, journal = j })
  return text({ r.heights, r.loss }, r.edges[1].curve.points, r.edges[2].curve.points)
end, { 20, 20 }, 15)
resumes(function(j, tick)
  local r = probe.mc_sgd({ wells(tick), wells(tick) }, { a, b }, { points = 2, steps = 9, journal = j })
  return text(r.losses, r.model)
end, { 9, 10 }, 3)
resumes(function(j, tick)
  local s = probe.simplex(wells(tick), { a }, { vertices = 2, steps = 6, samples = 2, journal = j })
  return text({ s.losses, s.volumes }, s.vertices)
end, { 8, 9 }, 1)
resumes(function(j, tick)
  local s = probe.learned_subspace(wells(tick), { start = { a, b }, steps = 9, journal = j })
  return text(s.losses, s.vertices)
end, { 5 })
resumes(function(j, tick)
  local r = probe.star(wells(tick), { a, b }, { steps = 130, journal = j, align = function(star, m)
    return m + 0.1 * star
  end })
  return text(r.losses, r.model, r.anchors)
end, { 60, 50 })
resumes(function(j, tick)
  local function logits(x)
    tick()
    return x:reshape { 1, 2 }
  end
  local c = probe.geodesic(logits, a, b, { pivots = 2, steps = 6, journal = j })
  return text({ c.losses, c.length }, c.points)
end, { 9 }, 20)

-- ---- with networks and data; the rate's schedule counts the steps of training ----

local d = data.two_moons { n = 60, seed = 1 }
local net = nn.mlp { 2, 6, 2 }
local m1, m2, m3 = net:init { seed = 1 }, net:init { seed = 2 }, net:init { seed = 3 }

local function training(tick)
  return { steps = 130, batch = 20, optimiser = "adam", quiet = true, schedule = function()
    tick()
    return 0.01
  end }
end

resumes(function(j, tick)
  local log = fresh() .. ".jsonl"
  local c = probe.curve(net, m1, m2, { data = d, epochs = 3, batch = 20, journal = j, log = log,
    schedule = training(tick).schedule })
  os.remove(log)
  return text(c.losses, c.points)
end, { 4 }, 3)
resumes(function(j, tick)
  local r = probe.instability(net, d, { at = { 0, 70 }, points = 3, train = training(tick), independent = true,
    journal = j })
  return text(r, r.children[0], r.children[70], r.children.independent)
end, { 100, 180, 200 }, 50)
resumes(function(j, tick)
  local r = probe.perturbation(net, d, { at = { 60 }, size = { 0.01, 0.1 }, points = 3, train = training(tick),
    journal = j })
  return text(r, r.children[60][0.01], r.children[60][0.1], r.whole)
end, { 110, 90 }, 50)
resumes(function(j, tick)
  local r = probe.tickets(net, d, { levels = 1, rewind = 10, controls = { "reinit" }, children = 2, points = 3,
    train = training(tick), journal = j })
  return text(r, r.models, r.models[0], r.controls.reinit)
end, { 70, 300 }, 50)
resumes(function(j, tick)
  local r = probe.intrinsic_dimension(net, d, { dims = { 3, 6 }, train = training(tick), journal = j })
  return text(r, r.models[3], r.models[6], r.models.full)
end, { 120, 200 }, 50)

-- Steps that are short, and no one's functions are called in them: from journals that were cut.
local function idle(run) resumes(function(j) return run(j) end, {}) end

idle(function(j) return text(probe.cka(net, m1, m2, d, { journal = j })) end)
idle(function(j) return text(probe.cka(net, m1, m1, d, { minibatch = 12, journal = j })) end)
idle(function(j) return text(probe.cka(net, m1, m2, d, { kernel = "rbf", unbiased = true, journal = j })) end)
for _, name in ipairs { "cca", "svcca", "pwcca", "procrustes", "matched_correlation" } do
  idle(function(j) return text(probe[name](net, m1, m2, d, { layers = { "fc1", "fc2" }, journal = j })) end)
end
idle(function(j) return text(probe.linear_probe(net, { m1, m2 }, d, d, { journal = j })) end)
idle(function(j) return text(probe.llfc(net, m1, m2, d, { t = { 0.25, 0.5 }, journal = j })) end)
local family, sets = { base = m3, m1, m2 }, { d, d }
idle(function(j) return text(probe.cross_task(net, family, sets, { lambda = { 0.3, 1 }, journal = j })) end)
idle(function(j) return text(probe.disentanglement(net, family, sets, { axis = { 0, 0.5, 1 }, journal = j })) end)
idle(function(j) return text(probe.task_vectors { base = m3, m1, m2, journal = j }) end)
idle(function(j) return text(probe.trajectory({ m1, m2, m3 }, { journal = j })) end)
do
  local wide = nn.mlp { 2, 8, 6, 2 }
  local a1, a2, loss = wide:init { seed = 1 }, wide:init { seed = 2 }, wide:loss(d)
  idle(function(j)
    return text(probe.dropout_stability(loss, a1, { tries = 2, keep = { fc1 = { 1, 3, 5 } }, journal = j }))
  end)
  idle(function(j)
    local c = probe.dropout_path(loss, a1, a2, { tries = 1, journal = j })
    return text({ c.steps, c.bound, c.stability_a, c.stability_b }, c.points)
  end)
  local path = fresh()
  probe.dropout_path(loss, a1, a2, { tries = 1, journal = path })
  check.raises("is the journal of another run", probe.dropout_path, loss, a2, a1, { tries = 1, journal = path })
  check.raises("is the journal of another run", probe.dropout_stability, loss, a1, { tries = 2, journal = path })
  os.remove(path)
end
for _, every in ipairs { 2, 5 } do -- the turns of the logits lie in a journal of their own, whose last lines are lost
  local path = fresh()
  local o = { points = 7, gauss = 10, journal = path }
  local want = text(probe.interpolation(net:loss(d), m1, m2, { points = 7, gauss = 10 }))
  check.equal(text(probe.interpolation(net:loss(d), m1, m2, o)), want)
  local lines = {}
  for line in io.lines(path .. ".turning") do lines[#lines + 1] = line .. "\n" end
  check.equal(#lines, 8)
  -- what is kept is not made again: one is made visible
  lines[2] = lines[2]:gsub('"#[^"]*"', '"#0x1p+10"')
  kit.write(path .. ".turning", table.concat(lines, "", 1, every))
  local again = probe.interpolation(net:loss(d), m1, m2, o)
  check.equal({ again.turning[1], again.turning[7] }, { 1024.0, probe.interpolation(net:loss(d), m1, m2, o).turning[7] })
  os.remove(path)
  os.remove(path .. ".turning")
end
idle(function(j) return text(probe.fisher(net, m1, d, { batch = 7, journal = j })) end)
idle(function(j) return text(probe.fisher_trace(net, { m1, m2 }, d, { journal = j })) end)
idle(function(j) return text(probe.gram(net, m1, d, { journal = j })) end)
idle(function(j) return text(probe.moments(net, m1, d, { batch = 16, journal = j })) end)
idle(function(j) return text(probe.ntk(net, m1, d:take(5), { journal = j })) end)
local f = net:loss(d:take(8))
idle(function(j) return text(probe.gradients(f, m1, { journal = j })) end)
idle(function(j) return text(probe.sharpness(f, m1, { m = 3, steps = 3, restarts = 1, journal = j })) end)
local tickets = probe.tickets(net, d, { levels = 2, train = { epochs = 2, quiet = true } })
idle(function(j)
  local r = probe.ticket_pool(net, tickets, d, { alphas = { 0.3, 0.6 }, journal = j })
  return text(r, r.models, r.masks)
end)
