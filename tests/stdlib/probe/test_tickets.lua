-- SPDX-License-Identifier: Apache-2.0
-- Tickets: sparsity per level exact, masks nested, pruned weights zero, rewound weights where they were.
local check = dofile "tests/stdlib/bind/check.lua"

local d, test = data.two_moons { n = 120, seed = 1 }, data.two_moons { n = 80, seed = 2 }
local net = nn.mlp { 2, 12, 12, 2 }
local fit = { epochs = 4, batch = 20, lr = 0.05, schedule = "cosine" }
local function same(a, b) return (a - b):norm() == 0 end

local r = probe.tickets(net, d, { levels = 3, share = 0.3, rewind = 5, on = { train = d, test = test }, seed = 2, train = fit,
  controls = { "random", "reinit" }, children = 2, points = 3 })
check.equal(r.numel, 24 + 144 + 24)
check.equal(#r.rows, 2 + 3 * 3 * 2)

local left = r.numel
for level = 1, 3 do
  left = left - math.ceil(0.3 * left)
  local n = 0
  for name, m in pairs(r.masks[level]) do
    n = n + m:sum()
    assert((m * (1 - r.masks[level - 1]:tensor(name))):sum() == 0, "masks are not nested")
    assert((r.models[level]:tensor(name) * (1 - m)):abs():max() == 0, "a pruned weight is not zero")
    assert(r.controls.random[level]:tensor(name):ne(0):sum() <= m:sum(), "the control has more weights")
  end
  check.equal(n, left + 0.0)
end
-- Globally: no weight that went is larger than one that stayed.
for level = 1, 3 do
  local most, least = 0, math.huge
  for name, m in pairs(r.masks[level]) do
    local w = r.models[level - 1]:tensor(name):abs()
    local before = r.masks[level - 1]:tensor(name)
    most = math.max(most, (w * (before - m)):max())
    least = math.min(least, tensor.where(m:gt(0), w, math.huge):min())
  end
  assert(most <= least, ("level %d: %g went, %g stayed"):format(level, most, least))
end

-- The dense run is the run itself (plain parts): rewinding starts Adam anew, so that it is the run from there.
do
  local early
  train.fit(net, d, { epochs = 4, batch = 20, lr = 0.05, schedule = "cosine", seed = 2, quiet = true,
    callbacks = { step = function(info) if info.step == 5 then early = info.theta() end end } })
  assert(same(early, r.start))
  local dense = train.fit(net, d, { epochs = 4, batch = 20, lr = 0.05, schedule = "cosine", seed = 2, quiet = true, start = early,
    skip = 5 })
  assert(same(dense, r.models[0]))
  -- A full mask changes nothing, and a masked run by hand is the ticket.
  local mask, start = {}, {}
  for name, m in pairs(r.masks[1]) do mask[name] = m end
  for _, name in ipairs(early:names()) do
    local t = early:tensor(name)
    start[#start + 1] = { name, mask[name] and t * mask[name] or t }
  end
  local zeroed = { epochs = 4, batch = 20, lr = 0.05, schedule = "cosine", seed = 2, quiet = true, start = model.new(start),
    skip = 5, callbacks = { step = function(info)
      local values, now = {}, info.theta()
      for name, m in pairs(mask) do values[name] = now:tensor(name) * m end
      info.replace(values)
    end } }
  local by_hand = train.fit(net, d, zeroed)
  assert((by_hand - r.models[1]):norm() < 1e-5 * by_hand:norm(), (by_hand - r.models[1]):norm())
end

local by = {}
for _, row in ipairs(r.rows) do by[row.level .. row.kind .. row.data] = row end
check.equal(by["0densetest"].matching, true)
assert(by["2tickettrain"].barrier_previous and by["2tickettrain"].instability and by["2randomtrain"].barrier_previous == nil)
check.near(by["1tickettrain"].loss, net:loss(d)(r.models[1]), 1e-6)
assert(tostring(r):find "rewound to step 5")

-- Weights that are not pruned; batch norm's statistics go on.
do
  local bn = nn.mlp { 2, 8, 2, norm = "batch" }
  local t = probe.tickets(bn, d, { levels = 1, ignore = "fc2", train = { epochs = 2, batch = 20 } })
  assert(#t.masks[1]:names "fc2" == 0 and t.numel == 16)
  local seen = false
  for _, name in ipairs(t.models[1]:names()) do
    if name:find "running_mean" then
      seen = true
      assert((t.models[1]:tensor(name) - t.start:tensor(name)):abs():max() > 0)
    end
  end
  assert(seen)
end

-- A pool is never worse on the data that it is chosen on, and has as many weights.
do
  local pool = probe.ticket_pool(net, r, test)
  check.equal(#pool.rows, 4) -- the dense network is one of them
  for k, row in ipairs(pool.rows) do
    local level = k - 1
    check.equal(row.level, level)
    check.near(row.before, net:loss(test):report(r.models[level]).error, 1e-12)
    assert(row.after <= row.before)
    local n = 0
    for name, m in pairs(pool.masks[level]) do
      n = n + m:sum()
      assert((pool.models[level]:tensor(name) * (1 - m)):abs():max() == 0)
    end
    check.near(n / r.numel, row.left, 1e-12)
    check.near(net:loss(test):report(pool.models[level]).error, row.after, 1e-12)
  end
  check.equal(#probe.ticket_pool(net, r, test, { levels = { 2 }, alphas = { 0.5 } }).rows, 1)

  -- The search by hand: nearest levels first (the lower of two), each mixed with what there is by now, the largest of
  -- all layers together kept, taken if better.
  local alphas, names = { 0.2, 0.7 }, r.masks[0]:names()
  local function score(theta)
    local v = net:loss(test):report(theta)
    return v.error, v.loss
  end
  local own = probe.ticket_pool(net, r, test, { alphas = alphas })
  for level, others in pairs { [0] = { 1, 2, 3 }, { 0, 2, 3 }, { 1, 3, 0 }, { 2, 1, 0 } } do
    local theta, n = r.models[level], 0
    for _, m in pairs(r.masks[level]) do n = n + math.tointeger(m:sum()) end
    local best, best_loss = score(theta)
    for _, k in ipairs(others) do
      local found
      for _, alpha in ipairs(alphas) do
        local mixed, sizes, list = alpha * theta + (1 - alpha) * r.models[k], {}, {}
        for _, name in ipairs(names) do sizes[#sizes + 1] = mixed:tensor(name):abs():flatten() end
        local least = tensor.cat(sizes, 1):sort():totable()
        least = least[#least + 1 - n]
        for _, name in ipairs(mixed:names()) do
          local t = mixed:tensor(name)
          local prunes = false
          for _, one in ipairs(names) do prunes = prunes or one == name end
          list[#list + 1] = { name, prunes and t * t:abs():ge(least) or t }
        end
        local candidate = model.new(list)
        local v, loss = score(candidate)
        if v < best or v == best and loss < best_loss then best, best_loss, found = v, loss, candidate end
      end
      theta = found or theta
    end
    check.near((own.models[level] - theta):norm():item(), 0, 1e-6, "pool of level " .. level)
  end
end

check.raises("share", probe.tickets, net, d, { share = 1 })
check.raises("24 steps", probe.tickets, net, d, { rewind = 24, train = fit })
check.raises("controls", probe.tickets, net, d, { controls = { "zero" } })
