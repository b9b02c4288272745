-- SPDX-License-Identifier: Apache-2.0
-- The geometry of checkpoints against closed forms and a direct computation.
local check = dofile "tests/stdlib/bind/check.lua"
local near = check.near
local f64 = { dtype = "f64" }

local function at(...) return model.new { { "a", tensor({ ... }, f64)[{ { 1, 2 } }] }, { "b", tensor({ ... }, f64)[{ { 3, 3 } }] } } end

-- A right angle.
do
  local r = probe.trajectory { at(1, 0, 0), at(4, 0, 0), at(4, 4, 0) }
  check.equal(r.from_start, { 0.0, 3.0, 5.0 })
  check.equal(r.to_end, { 5.0, 4.0, 0.0 })
  check.equal(r.step, { 3.0, 4.0 })
  near(r.turn[1], 0, 1e-15)
  near(r.towards_end[2], 0.6, 1e-15)
  near(r.cosine_start[3], 1 / math.sqrt(2), 1e-15)
  near(r.straightness, 5 / 7, 1e-15)
  near(r.norm[3], math.sqrt(32), 1e-12)
  check.equal(r.numel, 3)
  check.equal(#r.explained, 2)
  near(r.explained[1] + r.explained[2], 1, 1e-12)
  for _, v in ipairs(r.residual) do near(v, 0, 1e-6) end
end

-- Components against the SVD of the centred rows; the weights make unit vectors that project to the coordinates.
do
  local list, rows = {}, {}
  for t = 1, 6 do
    local x = tensor.normal({ 3, 7 }, t, f64)
    list[t], rows[t] = model.new { { "p", x }, { "n", tensor({ t }, { dtype = "i64" }) } }, x:reshape { 1, 21 }
  end
  local x = tensor.cat(rows, 1)
  local c = x - x:mean(1, true)
  local _, s, vt = c:svd()
  local r = probe.trajectory(list, { components = 3 })
  local total = (s * s):sum()
  for k = 1, 3 do
    near(r.explained[k], s[k] ^ 2 / total, 1e-12)
    local direction = 0
    for t = 1, 6 do direction = direction + r.weights[k][t] * x[t] end
    near(direction:norm(), 1, 1e-10)
    near(math.abs(direction:dot(vt[k])), 1, 1e-10)
    for t = 1, 6 do near(c[t]:dot(direction), r.coordinates[t][k], 1e-10) end
  end
  for t = 1, 6 do
    local left = c[t]:dot(c[t])
    for k = 1, 3 do left = left - r.coordinates[t][k] ^ 2 end
    near(r.residual[t], math.sqrt(left), 1e-9)
  end
  for t = 2, 5 do
    local back, on = list[t]:tensor "p" - list[t - 1]:tensor "p", list[t + 1]:tensor "p" - list[t]:tensor "p"
    near(r.turn[t - 1], back:cosine(on), 1e-10)
    near(r.step[t], on:norm(), 1e-10)
    local gone, whole = list[t]:tensor "p" - list[1]:tensor "p", list[6]:tensor "p" - list[1]:tensor "p"
    near(r.towards_end[t], gone:cosine(whole), 1e-10)
    near(r.from_start[t], gone:norm(), 1e-10)
    near(r.cosine_start[t], list[t]:tensor "p":cosine(list[1]:tensor "p"), 1e-10)
  end
  assert(tostring(r):find "straightness")
end

-- Files; names; what is refused.
do
  local paths = {}
  for k, name in ipairs { "base", "low", "high" } do paths[k] = "examples/data/" .. name .. ".safetensors" end
  local r = probe.trajectory(paths)
  local a, b = model.load(paths[1]), model.load(paths[2])
  near(r.step[1], (b - a):norm(), 1e-9)
  local one = probe.trajectory(paths, { only = "fc3" })
  near(one.step[1], (b - a):only("fc3"):norm(), 1e-9)
  check.raises("at least two", probe.trajectory, { a })
  check.raises("checkpoint 2", probe.trajectory, { a, 3 })
end
