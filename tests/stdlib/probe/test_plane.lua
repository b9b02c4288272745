-- SPDX-License-Identifier: Apache-2.0
-- probe.plane and probe.direction: reference planes in f64, paraboloids, marks on their models, principal components,
-- scaling invariance, journals, what is refused.
local check = dofile "tests/stdlib/bind/check.lua"
local lines = dofile "tests/stdlib/probe/lines.lua"
local near, point = lines.near, lines.point

-- ---- reference planes ----

for _, act in ipairs { "relu", "tanh" } do
  local c = lines.tiny(act)
  local axis = c.want.plane_axis
  local function plane(d1, d2) return probe.plane(c.f, c.theta, { directions = { d1, d2 }, x = axis, y = axis }) end
  local p = plane(c.dir1, c.dir2)
  near(p.loss, c.want.plane_loss.raw, 1e-10, act .. " raw")
  check.equal(p.loss[6][6], c.f(c.theta)) -- the centre, to the bit
  for _, bias in ipairs { "zero", "copy" } do
    local function filtered(d) return probe.direction(c.theta, { from = d, bias = bias }) end
    near(plane(filtered(c.dir1), filtered(c.dir2)).loss, c.want.plane_loss["filter_bias_" .. bias], 1e-10, act .. " " .. bias)
  end
end

-- ---- directions ----

do
  local theta = nn.conv({ 3, "M", input = { 8, 8, 1 } }):init { seed = 1 }
  local d = probe.direction(theta, { seed = 4 })
  for _, name in ipairs(theta:names()) do
    local w, v = theta:tensor(name), d:tensor(name)
    if w.rank > 1 then
      for row = 1, w.shape[1] do near(v[row]:norm(), w[row]:norm(), 1e-6, name) end
    else
      check.equal(v:abs():max(), 0.0)
    end
  end
  local layer = probe.direction(theta, { seed = 4, norm = "layer" })
  near(layer["features.0.weight"]:norm(), theta["features.0.weight"]:norm(), 1e-6, "layer")
  near(probe.direction(theta, { norm = "dlayer" })["features.0.weight"]:norm(), 1, 1e-6, "dlayer")
  near(probe.direction(theta, { norm = "dfilter" })["features.0.weight"][1]:norm(), 1, 1e-6, "dfilter")
  check.equal(probe.direction(theta, { seed = 4 }):dot(d), d:dot(d)) -- by seed and name alone
  assert(probe.direction(theta, { seed = 5 }):cosine(d) < 0.5)
  assert(probe.direction(theta, { bias = "free" })["features.0.bias"]:norm() > 0)
  check.equal(probe.direction(theta, { bias = "copy" })["features.1.running_var"]:norm(), 0.0) -- buffers do not move
  check.raises("norm = \"filters\"; expected", probe.direction, theta, { norm = "filters" })
  check.raises("bias = \"none\"; expected", probe.direction, theta, { bias = "none" })
end
do -- rescaling a relu network's layers against each other leaves a filter-normalised slice as it is
  local c = lines.tiny "relu"
  local function rescaled(m, k)
    local list = {}
    for _, name in ipairs(m:names()) do
      local s = name:find "^fc1" and k or name == "fc2.weight" and 1 / k or 1
      list[#list + 1] = { name, m:tensor(name) * s }
    end
    return model.new(list)
  end
  local function slice(theta)
    local d = probe.direction(theta, { seed = 3 })
    return probe.path(c.f, { curve = function(t) return theta + t * d end, t = { -1, -0.5, 0, 0.5, 1 } }).loss
  end
  local want = slice(c.theta)
  for _, k in ipairs { 10, 100 } do near(slice(rescaled(c.theta, k)), want, 1e-9, "rescaled") end
end

-- ---- a bowl is an exact paraboloid; marks lie on their models ----

local function bowl(m) return (m["w"] ^ 2):sum() end
do
  local a, b, c = point(1, 0, 0, 2), point(4, 0, 0, 2), point(2, 2, 0, 2)
  local p = probe.plane(bowl, { a, b, c }, { points = 7 })
  near({ p.x[1], p.x[7], p.y[1], p.y[7] }, { -0.6, 3.6, -0.4, 2.4 }, 1e-12, "limits")
  for i, x in ipairs(p.x) do
    for j, y in ipairs(p.y) do near(p.loss[i][j], (1 + x) ^ 2 + y ^ 2 + 4, 1e-12, "paraboloid") end
  end
  local where = { { 0, 0 }, { 3, 0 }, { 1, 2 } }
  for k, m in ipairs(p.marks) do
    near({ m.x, m.y, m.residual }, { where[k][1], where[k][2], 0 }, 1e-7, "mark")
    near(m.loss, bowl(({ a, b, c })[k]), 1e-12, "loss of a mark")
  end
  near(p.cosine, 0, 1e-12, "cosine")
  local q = probe.plane(bowl, { a, b, c }, { points = { 2, 3 }, mark = { { "off", point(1, 0, 5, 2) } } })
  check.equal({ #q.x, #q.y, #q.loss, #q.loss[1] }, { 2, 3, 2, 3 })
  local m = q.marks[4]
  near({ m.x, m.y, m.residual, m.loss, m.loss_here }, { 0, 0, 5, 30, 5 }, 1e-9, "a model off the plane and its shadow")
  assert(tostring(q):find "off")
end
do -- oblique directions
  local o = point(0, 0)
  local p = probe.plane(bowl, o, { directions = { point(1, 0), point(1, 1) }, x = { 0, 1 }, y = { 0, 1 }, mark = { { "m", point(3, 2) } } })
  check.equal(p.loss, { { 0.0, 2.0 }, { 1.0, 5.0 } })
  near({ p.marks[2].x, p.marks[2].y }, { 1, 2 }, 1e-12, "least squares")
  near(p.cosine, math.sqrt(0.5), 1e-12, "cosine")
end

-- ---- principal components ----

do -- a flat trajectory: all of it is explained, places are those of the points up to signs
  local list = {}
  for t = 0, 6 do list[t + 1] = point(math.cos(t), 3 * math.sin(t), 1, 1) end
  local p = probe.plane(bowl, list, { pca = true, points = 5 })
  near(p.explained[1] + p.explained[2], 1, 1e-12, "explained")
  for k, m in ipairs(p.marks) do
    near(m.residual, 0, 1e-6, "on the plane")
    near(m.loss_here, m.loss, 1e-9, "loss")
    for j = 1, k do
      local n = p.marks[j]
      near((m.x - n.x) ^ 2 + (m.y - n.y) ^ 2, (list[k] - list[j]):norm() ^ 2, 1e-9, "distance")
    end
  end
  -- shares against the eigenvalues of the covariance
  local sx, sy, sxx, syy, sxy = 0, 0, 0, 0, 0
  for t = 0, 6 do
    local x, y = math.cos(t), 3 * math.sin(t)
    sx, sy, sxx, syy, sxy = sx + x, sy + y, sxx + x * x, syy + y * y, sxy + x * y
  end
  local a, b, c = sxx - sx * sx / 7, syy - sy * sy / 7, sxy - sx * sy / 7
  local top = (a + b) / 2 + math.sqrt((a - b) ^ 2 / 4 + c * c)
  near(p.explained[1], top / (a + b), 1e-12, "share of the first")
  check.equal(p.trail, true)
end

-- ---- journals ----

do
  local name = os.tmpname()
  os.remove(name)
  local calls = 0
  local function counted(m)
    calls = calls + 1
    if calls == 10 then error "stop" end
    return bowl(m)
  end
  local a, b, c = point(0, 0), point(1, 0), point(0, 1)
  local o = { points = 4, journal = name }
  assert(not pcall(probe.plane, counted, { a, b, c }, o))
  local p = probe.plane(counted, { a, b, c }, o)
  check.equal(calls, 1 + 16 + 3) -- the call that failed, every cell once, the three models
  near(p.loss, probe.plane(bowl, { a, b, c }, { points = 4 }).loss, 0, "resumed")
  check.raises("is the journal of another run", probe.plane, counted, { a, b, point(0, 2) }, o)
  os.remove(name)
end

-- What is not finite, and what is whole, comes back as it was.
do
  local name = os.tmpname()
  os.remove(name)
  local values = { math.huge, -math.huge, 0 / 0, 2.0, -0.0, 0.1 + 0.2 }
  local calls = 0
  local function odd()
    calls = calls + 1
    return values[(calls - 1) % #values + 1]
  end
  local a, b, c = point(0, 0), point(1, 0), point(0, 1)
  local o = { points = 3, journal = name }
  local function text(p)
    local out = {}
    for i, row in ipairs(p.loss) do
      for k, v in ipairs(row) do out[#out + 1] = ("%d %d %a"):format(i, k, v) end
    end
    return table.concat(out, "\n"):gsub("%-nan", "nan")
  end
  local first = text(probe.plane(odd, { a, b, c }, o))
  local made = calls
  check.equal(text(probe.plane(odd, { a, b, c }, o)), first)
  check.equal(calls, made)
  assert(first:find "inf" and first:find "%-inf" and first:find "nan" and first:find "%-0x0p")
  os.remove(name)
end

-- ---- files, mistakes ----

do
  local name = os.tmpname()
  local p = probe.plane(bowl, { point(0, 0), point(1, 0), point(0, 1) }, { x = { 0, 1 }, y = { 0, 2, 3 } })
  p:save(name .. ".csv")
  local rows = {}
  for line in io.lines(name .. ".csv") do rows[#rows + 1] = line end
  os.remove(name .. ".csv")
  check.equal({ #rows, rows[1], rows[3], rows[7] }, { 7, "x,y,loss", "0,2,4", "1,3,10" })
  check.raises("the three models lie on a line", probe.plane, bowl, { point(0, 0), point(1, 1), point(2, 2) })
  check.raises("the first two models are equal", probe.plane, bowl, { point(0, 0), point(0, 0), point(2, 2) })
  check.raises("a plane goes through three models; 2 are given", probe.plane, bowl, { point(0, 0), point(1, 1) })
  check.raises("the two directions are parallel", probe.plane, bowl, point(0, 0), { directions = { point(1, 0), point(2, 0) } })
  check.raises("pca = true needs a list", probe.plane, bowl, { point(0), point(1) }, { pca = true })
  check.raises("there is no second component", probe.plane, bowl, { point(0, 0), point(1, 1), point(2, 2) }, { pca = true })
  check.raises("expected models, got a number", probe.plane, bowl, 3)
  check.raises("xlim = {low, high}", probe.plane, bowl, point(1, 2), { bias = "free", norm = "none", xlim = { 1, 0 } })
end
