-- SPDX-License-Identifier: Apache-2.0
-- Branching runs: what is not varied is the same to the bit, what is varied differs; rows, ways, journals; pushes.
local check = dofile "tests/stdlib/bind/check.lua"

local d = data.two_moons { n = 120, seed = 1 }
local test = data.two_moons { n = 80, seed = 2 }
local net = nn.mlp { 2, 8, 2 }

local function same(a, b) return (a - b):norm() == 0 end

-- ---- train.fit: forks and skipped steps ----

do
  local path = os.tmpname()
  local file = path .. ".safetensors"
  local o = { epochs = 4, batch = 25, optimiser = "adam", schedule = "cosine", seed = 3, quiet = true }
  local function with(more)
    local out = {}
    for key, v in pairs(o) do out[key] = v end
    for key, v in pairs(more) do out[key] = v end
    return out
  end
  local whole = train.fit(net, d, o)
  train.fit(net, d, with { checkpoint = { path = file, every = 1000 },
    callbacks = { step = function(info) if info.step == 7 then info.stop() end end } })
  -- A fork with the same seeds has the bytes of the run; with another order it has not.
  assert(same(train.fit(net, d, with { resume = file, fork = true }), whole))
  local other = { init = 3, order = 4, augment = 3, dropout = 3 }
  local child = train.fit(net, d, with { resume = file, fork = true, seed = other })
  assert(not same(child, whole))
  check.raises("seeds", train.fit, net, d, with { resume = file, seed = other })
  -- Augmentation and dropout seeds count for nothing where there is neither.
  assert(same(train.fit(net, d, with { resume = file, fork = true, seed = { init = 9, order = 3, augment = 5, dropout = 6 } }),
    whole))
  -- Other parameters, the optimiser's state as it was.
  local start = net:init { seed = 8 }
  local moved = train.fit(net, d, with { resume = file, fork = true, start = start })
  assert(not same(moved, whole) and not same(moved, start))
  check.raises("resume = its path", train.fit, net, d, with { fork = true })
  os.remove(path)
  os.remove(file)
  -- The state as a model in memory is as good as a file, and can be used again.
  local state
  train.fit(net, d, with { checkpoint = function(m) state = m end,
    callbacks = { step = function(info) if info.step == 10 then info.stop() end end } }) -- an epoch ends there
  for _ = 1, 2 do assert(same(train.fit(net, d, with { resume = state }), whole)) end

  -- Plain SGD has no state: skipped steps give the run itself, from the model that it had there.
  local sgd = { epochs = 4, batch = 25, optimiser = train.sgd { lr = 0.1 }, schedule = "cosine", seed = 3, quiet = true }
  local at
  sgd.callbacks = { step = function(info) if info.step == 7 then at = info.theta() end end }
  local all = train.fit(net, d, sgd)
  sgd.callbacks, sgd.start, sgd.skip = nil, at, 7
  local rest, log = train.fit(net, d, sgd)
  assert(same(rest, all))
  check.equal(#log.losses, 13)
end

-- ---- instability ----

local fit = { epochs = 3, batch = 20, lr = 0.05 }

do
  local r = probe.instability(net, d, { at = { 6, 0, 18 }, on = { train = d, test = test }, points = 5, seed = 1, train = fit })
  check.equal(r.at, { 0, 6, 18 })
  check.equal(#r.rows, 6)
  check.equal(#r.mean, 6)
  assert(r.rows[1].distance > r.rows[3].distance and r.rows[3].distance > 0)
  -- At the last step there is nothing left to differ by.
  check.equal(r.rows[5].distance, 0.0)
  check.equal(r.rows[5].barrier_loss, 0.0)
  local a, b = r.children[0][1], r.children[0][2]
  local want = probe.barrier(net:loss(d), a, b, { points = 5 })
  check.near(r.rows[2].data == "train" and r.rows[2].barrier_loss or r.rows[1].barrier_loss, want.barrier_loss, 1e-12)
  assert(tostring(r):find "instability")
  -- Where nothing is varied that matters, children are one and the same.
  local still = probe.instability(net, d, { at = { 0, 5 }, vary = { "augment", "dropout" }, points = 3, seed = 1, train = fit })
  for _, row in ipairs(still.rows) do check.equal(row.distance, 0.0) end
  assert(same(still.children[5][1], train.fit(net, d, { epochs = 3, batch = 20, lr = 0.05, seed = 1, quiet = true })))
end

-- Only the seed that is varied differs: with augmentation and a fixed order children share batches, not pixels.
do
  local o = { at = 0, vary = { "augment" }, points = 3, train = { epochs = 1, batch = 40, augment = { noise = 0.3 } } }
  local r = probe.instability(net, d, o)
  assert(r.rows[1].distance > 0)
end

-- Three children, other ways, independent runs, fresh optimisers, epochs.
do
  local seen = 0
  local r = probe.instability(net, d, { at = { 0.5 }, unit = "epochs", children = 3, points = 3, seed = 2, train = fit,
    fresh = true, independent = true, ways = {
      same = function(a) seen = seen + 1 return a end,
      curved = function(a, b) return function(t) return (1 - t) ^ 2 * a + 2 * t * (1 - t) * a + t ^ 2 * b end end } })
  check.equal(#r.rows, 2 * 3 * 3)
  check.equal(r.at, { 3 })
  check.equal(seen, 6)
  local mean = {}
  for _, m in ipairs(r.mean) do mean[m.at .. m.way] = m end
  check.equal(mean["3same"].barrier_loss, 0.0)
  assert(mean["3curved"].distance == nil and mean["independentdirect"].distance > mean["3direct"].distance)
end

-- The ceiling: of independent runs by their rows, of guessing by the labels; in the picture a dashed line for each set.
do
  local few = test:take(50)
  local r = probe.instability(net, d, { at = { 0, 9, 18 }, points = 5, on = { train = d, test = few }, independent = true,
    train = fit })
  local count, ends, n = { [0] = 0, [1] = 0 }, 0, 0
  for _, label in ipairs(few.y:totable()) do count[label] = count[label] + 1 end
  for _, row in ipairs(r.rows) do
    if row.data == "test" then
      ends, n = ends + (row.error_a + row.error_b) / 2, n + 1
      if row.at == "independent" then check.equal(r.ceiling.test.instability, row.instability) end
    end
  end
  check.near(r.ceiling.test.chance, 1 - math.max(count[0], count[1]) / 50 - ends / n, 1e-12)
  local fig = r:plot()
  check.equal(#fig.series, 4)
  local line = fig.series[3]
  check.equal({ line.x[1], line.x[2], line.y[1], line.y[2] }, { 0.0, 18.0, r.ceiling[line.label:match "^%a+"].instability,
    r.ceiling[line.label:match "^%a+"].instability })
  assert(line.label:find "nothing shared" and line.dash and line.style == 1)
  assert(fig:svg():find('stroke-dasharray="6 3"', 1, true) and tostring(r):find "a point of chance")
  local plain = probe.instability(net, d, { at = { 0 }, points = 3, train = fit })
  check.equal(#plain:plot().series, 1)
  assert(not plain:plot():svg():find "stroke%-dasharray" and plain.ceiling.train == nil)
end

-- A journal that holds everything needs no training; it has the models too.
do
  local path = os.tmpname()
  os.remove(path)
  local o = { at = { 0, 4 }, points = 3, train = fit, journal = path }
  local r = probe.instability(net, d, o)
  local again = probe.instability(net, d, o)
  for i, row in ipairs(r.rows) do
    for key, v in pairs(row) do assert(again.rows[i][key] == v, key) end
  end
  assert(same(again.children[4][2], r.children[4][2]) and #again.children[0] == 2)
  o.seed = 7
  check.raises("another run", probe.instability, net, d, o)
  os.remove(path)
  for k = 2, 12 do os.remove(("%s.%d.safetensors"):format(path, k)) end
end

check.raises("train.seed", probe.instability, net, d, { train = { seed = 3 } })
check.raises("18 steps", probe.instability, net, d, { at = 19, train = fit })
check.raises("vary", probe.instability, net, d, { vary = { "order", "batch" }, train = fit })

-- ---- perturbation ----

do
  local r = probe.perturbation(net, d, { at = { 0, 9, 18 }, size = { 1e-3, 1e-2 }, directions = 2, points = 3, seed = 1,
    train = fit })
  check.equal(#r.rows, 12)
  local whole = train.fit(net, d, { epochs = 3, batch = 20, lr = 0.05, seed = 1, quiet = true })
  assert(same(r.whole, whole))
  local by = {}
  for _, row in ipairs(r.rows) do by[row.at .. " " .. row.size .. " " .. row.direction] = row end
  -- At the end the push is all there is.
  local last = by["18 0.01 1"]
  check.near(last.amplification, 1, 1e-4)
  check.near(last.distance, 0.01 * whole:norm(), 1e-4 * whole:norm())
  assert(by["0 0.01 1"].distance ~= by["0 0.01 2"].distance)
  check.equal(#r.mean, 6)
  check.near(r.mean[6].distance, (by["18 0.01 1"].distance + by["18 0.01 2"].distance) / 2, 1e-12)
  assert(tostring(r):find "amplification" and r.rows[1].disagreement)
end
