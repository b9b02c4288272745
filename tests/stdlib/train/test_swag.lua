-- SPDX-License-Identifier: Apache-2.0
-- SWAG: moments of a list worked out in plain numbers, in the trainer and over its files; draws whose
-- covariance is (variance + D D^T / (K - 1)) / 2; and the members that cyclic rates leave.
local check = dofile "tests/stdlib/bind/check.lua"
local folder <close> = dofile "tests/stdlib/bind/folder.lua" ()
local draws = tonumber((...)) or 8000

local function value(w, b)
  return model.new { { "w", tensor(w, { dtype = "f64" }) }, { "b", tensor(b, { dtype = "f64" }) } }
end

-- ---- moments ----

local points = { { 1, 4, -2, 0.5, 10 }, { 2, 3, 0, 0.25, 10 }, { 0, 4.5, 1, -1, 10 }, { 3, 5, -1, 2, 10 },
  { 1.5, 2, 2.5, 0, 10 }, { -1, 3.5, 0.5, 1, 10 } }
local rank = 4
local swag = train.swag { rank = rank }
for _, p in ipairs(points) do swag:add(value({ p[1], p[2], p[3] }, { p[4], p[5] })) end

local function flat(m)
  local out = m:tensor("w"):totable()
  for _, v in ipairs(m:tensor("b"):totable()) do out[#out + 1] = v end
  return out
end
local mean, var, columns = {}, {}, {}
for i = 1, 5 do
  local m1, m2 = 0, 0
  for _, p in ipairs(points) do m1, m2 = m1 + p[i] / #points, m2 + p[i] ^ 2 / #points end
  mean[i], var[i] = m1, m2 - m1 ^ 2
end
for k = #points - rank + 1, #points do -- distances to the mean up to the k-th
  local d = {}
  for i = 1, 5 do
    local sum = 0
    for j = 1, k do sum = sum + points[j][i] end
    d[i] = points[k][i] - sum / k
  end
  columns[#columns + 1] = d
end
local got_mean, got_var, got = flat(swag:model()), flat(swag:variance()), swag:deviations()
check.equal(#got, rank)
check.equal(swag:variance():mass(), 0.0)
for i = 1, 5 do
  check.near(got_mean[i], mean[i], 1e-13, "mean")
  check.near(got_var[i], var[i], 1e-13, "variance")
  for k = 1, rank do check.near(flat(got[k])[i], columns[k][i], 1e-13, "deviation") end
end
-- Far from zero m2 - m1^2 has lost everything; these have not.
local far = train.swag()
for _, p in ipairs(points) do far:add(value({ p[1] + 1e9, p[2], p[3] }, { p[4], p[5] })) end
check.near(flat(far:variance())[1], var[1], 1e-6, "no cancellation")

-- ---- draws ----

local function covariance(o, n)
  local sum, outer = {}, {}
  for i = 1, 5 do
    sum[i], outer[i] = 0, {}
    for j = 1, 5 do outer[i][j] = 0 end
  end
  for seed = 1, n do
    local x = flat(swag:sample(seed, o))
    for i = 1, 5 do
      local d = x[i] - mean[i]
      sum[i] = sum[i] + d / n
      for j = 1, i do outer[i][j] = outer[i][j] + d * (x[j] - mean[j]) / n end
    end
  end
  return sum, outer
end

-- Of n draws the mean of a product of two Gaussians is off by sqrt((s_ii s_jj + s_ij^2) / n); 4.5 times that
-- happens once in 10^5.
local function compare(o, n, expected)
  local sum, outer = covariance(o, n)
  for i = 1, 5 do
    check.near(sum[i], 0, 4.5 * (expected(i, i) / n) ^ 0.5 + 1e-12, "mean of draws")
    for j = 1, i do
      local s = expected(i, j)
      check.near(outer[i][j], s, 4.5 * ((expected(i, i) * expected(j, j) + s * s) / n) ^ 0.5 + 1e-12,
        ("covariance %d %d"):format(i, j))
    end
  end
end

local function full(i, j)
  local s = i == j and var[i] or 0
  for k = 1, rank do s = s + columns[k][i] * columns[k][j] / (rank - 1) end
  return s / 2
end
compare(nil, draws, full)
compare({ scale = 0.25 }, draws // 5, function(i, j) return full(i, j) / 4 end)
compare({ diagonal = true }, draws // 5, function(i, j) return i == j and var[i] or 0 end)
local still = flat(swag:sample(3, { scale = 0 }))
for i = 1, 5 do check.near(still[i], mean[i], 1e-13, "scale 0") end
check.equal(flat(swag:sample(7)), flat(swag:sample(7)))
assert(flat(swag:sample(7))[1] ~= flat(swag:sample(8))[1])

-- A draw taken earlier says nothing about what was added since.
local before = flat(swag:sample(1, { scale = 0 }))
swag:add(value({ 9, 9, 9 }, { 9, 9 }))
local now = flat(swag:sample(1, { scale = 0 }))
check.near(before[1], mean[1], 1e-13)
check.near(now[1], (6 * mean[1] + 9) / 7, 1e-13)

-- ---- in the trainer, and over its files ----

local moons = data.two_moons { n = 200, seed = 1 }
local net = nn.sequential { nn.linear(2, 12), nn.batch_norm(12), "relu", nn.linear(12, 2) }
local run = folder "run"
os.execute(("mkdir '%s'"):format(run))
local o = { rank = 3, from = 12, every = 4 }
local online, swa = train.swag(o), train.swa { from = 12, every = 4 }
train.fit(net, moons, { steps = 40, batch = 50, lr = 0.05, seed = 1, callbacks = { online, swa },
  checkpoint = { path = folder "run.safetensors", every = 4, keep = run } })
local offline = train.swag(o):over(run)
check.equal(online.n, 8)
for _, name in ipairs(online:model():names()) do
  assert(online:model():tensor(name):equal(offline:model():tensor(name)), name)
  assert(online:model():tensor(name):equal(swa:model():tensor(name)), name)
  assert(online:variance():tensor(name):equal(offline:variance():tensor(name)), name)
  assert(online:sample(5):tensor(name):equal(offline:sample(5):tensor(name)), name)
end
local plain, reset = online:sample(2), online:sample(2, { net = net, data = moons })
assert(plain["0.weight"]:equal(reset["0.weight"]) and not plain["1.running_mean"]:equal(reset["1.running_mean"]))
local expected = eval.bn_reset(net, plain, moons)
assert(expected["1.running_var"]:equal(reset["1.running_var"]))

check.raises("a variance needs two", function() return train.swag():add(value({ 1 }, { 1 })):sample(1) end)
check.raises("there are 0 deviations", function()
  return train.swag({ rank = 0 }):add(value({ 1 }, { 1 })):add(value({ 2 }, { 1 })):sample(1)
end)
check.raises("a seed is given", function() return online:sample() end)
check.raises("give data too", function() return online:sample(1, { net = net }) end)

-- ---- members at the ends of cycles ----

local function members(schedule, steps, options)
  local c, at = train.collect(options), {}
  local seen = {}
  train.fit(net, moons, { steps = steps, batch = 100, seed = 1, lr = 0.1, schedule = schedule, optimiser = "sgd",
    callbacks = { c, step = function(info) seen[info.step] = info.theta() end } })
  for i, m in ipairs(c:models()) do
    for step, s in pairs(seen) do
      if s["0.weight"]:equal(m:load()["0.weight"]) then at[i] = step end
    end
  end
  return table.concat(at, " "), c
end
check.equal((members(train.snapshot { cycles = 4 }, 24)), "6 12 18 24")
check.equal((members(train.snapshot { cycles = 4 }, 24, { last = 2 })), "18 24")
check.equal((members(train.snapshot { cycles = 4 }, 24, { from = 7 })), "12 18 24")
-- The rate of FGE is lowest at f = 1/2, in the middle of a cycle.
check.equal((members(train.fge { base = 0.1, low = 0.001, cycle = 8 }, 26)), "4 12 20")
check.equal((members("constant", 10)), "")
check.equal((members("constant", 10, { every = 5 })), "5 10")
check.equal((members("constant", 10, { at = "epoch" })), "2 4 6 8 10")
check.equal((members(train.linear { warmup = 4 }, 10)), "")
local where = folder "members"
os.execute(("mkdir '%s'"):format(where))
local at, c = members(train.snapshot { cycles = 3 }, 12, { folder = where })
check.equal(at, "4 8 12")
check.equal(#model.list(where), 3)
local _, steps = model.checkpoints(where)
check.equal(table.concat(steps, " "), "4 8 12")
check.near((c:model() - merge.swa(where)):norm(), 0, 0, "their mean")
