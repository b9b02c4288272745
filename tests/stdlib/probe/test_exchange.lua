-- SPDX-License-Identifier: Apache-2.0
-- probe.exchange, probe.barriers, probe.region, probe.radius: reference layers in f64, identities with the whole line,
-- clusters and hierarchies by hand, samples where they have to lie, radii of bowls.
local check = dofile "tests/stdlib/bind/check.lua"
local lines = dofile "tests/stdlib/probe/lines.lua"
local near, point = lines.near, lines.point

-- ---- layers ----

for _, act in ipairs { "relu", "tanh" } do
  local c = lines.tiny(act)
  local r = probe.exchange(c.f, c.theta, c.other)
  near(r.t, c.want.layerwise_t, 1e-15, "t")
  check.equal(r.layers, { "fc1", "fc2", "fc3" })
  for k, name in ipairs(r.layers) do
    near(r.loss[k], c.want.layerwise_to_other[name], 1e-10, act .. " " .. name)
    local v = r.loss[k]
    local height = 0
    for i, t in ipairs(r.t) do height = math.max(height, v[i] - ((1 - t) * v[1] + t * v[#v])) end
    near(r.barrier_loss[k], height, 1e-12, "barrier")
    near(r.rise[k], math.max(table.unpack(v)) - v[1], 1e-12, "rise")
  end
  -- all layers together are the line; cumulative ones end at what is exchanged
  local first = probe.exchange(c.f, c.theta, c.other, { cumulative = "first" })
  local whole = probe.path(c.f, c.theta, c.other, { points = 11 })
  near(first.loss[3], whole.loss, 1e-12, "all layers")
  near(first.error[3], whole.error, 1e-12, "all layers, error")
  near(first.loss[1], r.loss[1], 0, "the first alone")
  local last = probe.exchange(c.f, c.theta, c.other, { cumulative = "last" })
  near(last.loss[1], whole.loss, 1e-12, "all layers from behind")
  near(last.loss[3], r.loss[3], 0, "the last alone")
  -- the other way round: the complement of the cumulative exchange, read backwards
  local back = probe.exchange(c.f, c.theta, c.other, { stays = "b", cumulative = "last" })
  near(back.loss[2][11], first.loss[1][11], 1e-12, "complement")
  -- a random direction of the same norm: other losses, the same start
  local noise = probe.exchange(c.f, c.theta, c.other, { control = 1 })
  check.equal(noise.loss[1][1], r.loss[1][1])
  assert(noise.loss[1][11] ~= r.loss[1][11])
  near(probe.exchange(c.f, c.theta, c.other, { control = 1 }).loss[1], noise.loss[1], 0, "the same seed")
end
do -- the design's loop gives the same
  local c = lines.tiny "relu"
  local k, r = 0, probe.exchange(c.f, c.theta, c.other, { t = { 0, 1 } })
  for name, part in c.net:layers() do
    k = k + 1
    check.equal(r.layers[k], name)
    near(r.loss[k][2], c.f(c.theta + (c.other - c.theta):only(part)), 1e-12, name)
  end
end
check.raises("needs net = the network", probe.exchange, function() return 0 end, point(1), point(2))
check.raises("cumulative = \"up\"; expected", probe.exchange, lines.tiny "relu".f, point(1), point(2), { cumulative = "up" })

-- ---- pairs ----

do -- a double well: -1.2, -1 | 1, 1.1; barriers by the function itself
  local function f(x) return { loss = (x * x - 1) ^ 2, error = x > 0 and 1 or 0 } end
  local r = probe.barriers(f, { -1.2, -1, 1, 1.1 }, { names = { "a", "b", "c", "d" }, points = 101 })
  check.equal({ #r.clusters, r.clusters[1][1], r.clusters[1][2], r.clusters[2][1], r.clusters[2][2] }, { 2, 1, 2, 3, 4 })
  for i = 1, 4 do
    check.equal(r.matrix[i][i], 0.0)
    for j = 1, 4 do
      check.equal(r.matrix[i][j], r.matrix[j][i])
      if i < j then
        local x = { -1.2, -1, 1, 1.1 }
        near(r.matrix[i][j], probe.barrier(f, x[i], x[j], { points = 101 }).barrier_loss, 1e-12, "entry")
      end
    end
  end
  near(r.matrix[2][3], 1, 1e-12, "the wall")
  check.equal(#r.pairs, 6)
  near(r.pairs[4].barrier_error, 0.5, 0.02, "errors too")
  check.equal(#probe.barriers(f, { -1, 1 }, { threshold = 2 }).clusters, 1)
  check.equal(probe.barriers(f, { -1, 1 }, { quantity = "barrier_error", points = 5 }).quantity, "barrier_error")
end
do -- hierarchies of a matrix that is known: barriers of -(x - c)^2 are quarter squares of distances
  local function hill(x) return -x * x end
  local places = { 0, 2, 6, 7 } -- d: 1 9 12.25 / 4 6.25 / .25
  for linkage, heights in pairs { single = { 0.25, 1, 4 }, complete = { 0.25, 1, 12.25 }, average = { 0.25, 1, (9 + 12.25 + 4 + 6.25) / 4 } } do
    local r = probe.barriers(hill, places, { linkage = linkage, points = 3 })
    for k, h in ipairs(heights) do near(r.joins[k].height, h, 1e-12, linkage) end
    check.equal({ r.joins[1][1], r.joins[1][2], r.joins[2][1], r.joins[2][2], r.joins[3].size }, { 3, 4, 1, 2, 4 })
    check.equal({ #r:tree().kids, r:tree().value }, { 2, r.joins[3].height })
  end
  -- the map of distances that are in a plane is those distances
  local function root(x) return -math.abs(x) end -- 0 at 0: barrier of (-x, y) through the peak
  local r = probe.barriers(root, { -1, 1 }, { points = 3 })
  near((r.map[1][1] - r.map[2][1]) ^ 2 + (r.map[1][2] - r.map[2][2]) ^ 2, r.matrix[1][2] ^ 2, 1e-12, "map")
end
do -- spectral clusters: planted blocks, and the eigenvalues of the Laplacian by hand
  local function hill(x) return -x * x end -- barriers are quarter squares of distances
  local r = probe.barriers(hill, { 0, 10, 0, 10, 0 }, { points = 3 })
  check.equal({ r.spectral.k, #r.spectral.clusters }, { 2, 2 })
  check.equal(r.spectral.clusters[1], { 1, 3, 5 })
  check.equal(r.spectral.clusters[2], { 2, 4 })
  local b = math.exp(-4) -- 25, and half of it is the scale
  near(r.spectral.eigenvalues, { 0, 2 - 3 / (3 + 2 * b) - 2 / (2 + 3 * b), 1, 1, 1 }, 1e-12, "two blocks")
  assert(tostring(r):find "spectral, k = 2: {1, 3, 5} {2, 4}")
  -- A chain: components take it for one where links are below the threshold, the spectrum cuts it in its middle.
  r = probe.barriers(hill, { 0, 1, 2, 3.9, 4.9, 5.9 }, { points = 3, threshold = 1, k = 2 })
  check.equal(#r.clusters, 1)
  check.equal(r.spectral.clusters[1], { 1, 2, 3 })
  check.equal(#probe.barriers(hill, { 0, 1 }, { points = 3, scale = 1e-3 }).spectral.clusters, 2)
  check.equal(#probe.barriers(hill, { 3, 3, 3 }, { points = 3 }).spectral.clusters, 1)
  check.raises("k = 3 clusters of 2", probe.barriers, hill, { 0, 1 }, { k = 3 })
  check.raises("scale is a number above 0", probe.barriers, hill, { 0, 1 }, { scale = 0 })
  -- Blocks of several sizes under noise, in any order.
  local partition, of = dofile "stdlib/probe/partition.lua", { 1, 2, 3, 1, 1, 2, 4, 4, 3, 1, 2, 1 }
  local noise, matrix = tensor.uniform({ #of, #of }, 1, { dtype = "f64" }):totable(), {}
  for i = 1, #of do
    matrix[i] = {}
    for j = 1, #of do
      local u = i < j and noise[i][j] or noise[j][i]
      matrix[i][j] = i == j and 0.0 or of[i] == of[j] and 0.3 * u or 0.8 + 0.6 * u
    end
  end
  local p = partition(matrix, 0.5)
  check.equal(p.k, 4)
  for _, cluster in ipairs(p.clusters) do
    for _, i in ipairs(cluster) do check.equal(of[i], of[cluster[1]]) end
  end
  matrix[1][2] = 0 / 0
  check.equal(partition(matrix, 0.5), nil)
end
do -- equal models: zeros; alignment is applied; ends are evaluated once
  local c = lines.tiny "relu"
  local r = probe.barriers(c.f, { c.theta, c.theta, c.theta }, { points = 5 })
  for i = 1, 3 do for j = 1, 3 do near(r.matrix[i][j], 0, 1e-12, "equal models") end end
  local calls = 0
  local function counted(x)
    calls = calls + 1
    return x * x
  end
  probe.barriers(counted, { 1, 2, 3 }, { points = 5 })
  check.equal(calls, 3 + 3 * 3)
  local seen = {}
  probe.barriers(counted, { 1, 2, 3 }, { align = function(a, b)
    seen[#seen + 1] = a .. b
    return a
  end })
  check.equal(seen, { "12", "13", "23" })
  check.raises("expected a list of at least two models", probe.barriers, counted, { 1 })
  check.raises("linkage = \"ward\"; expected", probe.barriers, counted, { 1, 2 }, { linkage = "ward" })
  check.raises("the function gives no error", probe.barriers, counted, { 1, 2 }, { quantity = "barrier_error" })
end

-- ---- regions ----

do
  local a, b, c = point(3, 0, 0), point(0, 3, 0), point(0, 0, 3)
  local plane, axis = 0, 0
  local function watched(m)
    local w = m["w"]:totable()
    plane = math.max(plane, math.abs(w[1] + w[2] + w[3] - 3))
    axis = math.min(w[1], w[2], w[3])
    return axis
  end
  local function run(kind)
    plane = 0
    return probe.region(watched, { a, b, c }, { n = 60, kinds = { kind }, seed = 3 }).samples[kind]
  end
  for _, v in ipairs(run "hull") do assert(v > 0 and v < 1) end
  near(plane, 0, 1e-12, "the hull lies in the plane of the models")
  for _, v in ipairs(run "boundary") do near(v, 0, 1e-12, "a face") end
  for _, v in ipairs(run "ray") do assert(v <= 0 and v >= -1.0000001) end
  near(plane, 0, 1e-12, "rays too")
  local function distances(kind, from)
    local r = probe.region(function(m) return (m - from):norm() end, { a, b, c }, { n = 10, kinds = { kind } })
    return r.samples[kind]
  end
  for _, v in ipairs(distances("ball", point(1, 1, 1))) do near(v, math.sqrt(6), 1e-9, "ball") end
  local noisy = distances("noise", a)
  for k = 1, 10, 3 do near(noisy[k], math.sqrt(6), 1e-9, "noise about the first") end
  -- an even Dirichlet: the mean of each weight is a third, its variance (1/3)(2/3)/4
  local sum, squares, n = 0, 0, 4000
  local r = probe.region(function(m) return m["w"][1] / 3 end, { a, b, c }, { n = n, kinds = { "hull" } })
  for _, v in ipairs(r.samples.hull) do sum, squares = sum + v, squares + v * v end
  near(sum / n, 1 / 3, 0.015, "mean of a weight")
  near(squares / n - (sum / n) ^ 2, 1 / 18, 0.004, "variance of a weight")
  -- quantiles and shares
  r = probe.region(function(m) return (m["w"] ^ 2):sum() end, { a, b, c }, { n = 30 })
  check.equal({ r.below.hull, r.below.boundary, r.below.ray }, { 1.0, 1.0, 0.0 })
  for _, q in pairs(r.quantiles) do for k = 2, #q do assert(q[k] >= q[k - 1]) end end
  near(r.mean, 3, 1e-12, "mean")
  near(r.models, { 9, 9, 9 }, 1e-12, "models")
  check.raises("kinds: \"cube\"; expected hull", probe.region, watched, { a, b }, { kinds = { "cube" } })
end

-- ---- radii ----

do -- a bowl: along a direction of norm d, the loss rises by h at sqrt(h) / d
  local theta = model.new { { "w", tensor({ { 3, 4 } }, { dtype = "f64" }) } }
  local function bowl(m) return ((m - theta)["w"] ^ 2):sum() end
  local r = probe.radius(bowl, theta, { rise = 4, directions = 4, tolerance = 1e-9 })
  for _, v in ipairs(r.radius) do near(v, 2 / 5, 1e-8, "radius") end
  near(r.mean_log, math.log(0.4), 1e-8, "mean of logarithms")
  check.equal(r.open, 0)
  r = probe.radius(function() return 1 end, theta, { directions = 2, most = 3 })
  check.equal({ r.open, r.radius[1] }, { 2, 3.0 })
  assert(tostring(r):find "2 did not rise within 3")
  check.raises("rise, first and tolerance are above 0", probe.radius, bowl, theta, { rise = 0 })
end
