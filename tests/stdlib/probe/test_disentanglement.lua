-- SPDX-License-Identifier: Apache-2.0
-- Weight disentanglement error: by hand, on its axes, in tangent space.
local check = dofile "tests/stdlib/bind/check.lua"
local tiny = dofile "tests/stdlib/probe/tiny.lua"
local near = check.near

local net, a, b, d = tiny.read "relu"
local base = net:init { seed = 4, dtype = "f64" }
local e = { x = tensor.normal({ 31, 6 }, 2, { dtype = "f64" }) }

local function classes(m, x) return net(m, x):argmax(-1) end

-- Every point of the grid, written out.
do
  local axis = { -1, 0, 0.5, 1 }
  local r = probe.disentanglement(net, { base = base, a, b }, { d, e }, { axis = axis, batch = 10 })
  check.equal(r.n, 48 + 31)
  for i, ca in ipairs(axis) do
    for j, cb in ipairs(axis) do
      local together = base + ca * (a - base) + cb * (b - base)
      local want = classes(base + ca * (a - base), d.x):ne(classes(together, d.x)):mean()
        + classes(base + cb * (b - base), e.x):ne(classes(together, e.x)):mean()
      near(r.matrix[{ i, j }], want, 1e-12, ca .. " " .. cb)
    end
  end
  assert(r.matrix[{ 4, 4 }] > 0 and tostring(r):find "examples")
end

-- Without a second task vector nothing is disturbed: xi(a, 0) = 0 for tau_2 = 0.
do
  local r = probe.disentanglement(net, { base = base, a, base }, { d, e }, { axis = { -2, 0, 1 }, distance = "logit" })
  for i, ca in ipairs { -2, 0, 1 } do
    -- The second task's data see the first task vector, and only that counts.
    local want = ((net(base, e.x) - net(base + ca * (a - base), e.x)) ^ 2):sum(-1):sqrt():mean()
    for j = 1, 3 do near(r.matrix[{ i, j }], want, 1e-10) end
  end
end

-- In tangent space the error of a task whose data the other leaves alone is exactly 0, and JS is bounded by log 2.
do
  local f = train.tangent(net, base)
  local r = probe.disentanglement(f, { base = base, a, b }, { d, e }, { coefficients = { { 0.5, 0.5 } }, distance = "js" })
  assert(r.values[1] > 0 and r.values[1] <= 2 * math.log(2) and r.matrix == nil)
end

-- Three tasks, along equal coefficients.
do
  local r = probe.disentanglement(net, { base = base, a, b, 0.5 * a + 0.5 * b }, { d, e, d }, { axis = { 0, 1 } })
  check.equal(#r.values, 2)
  near(r.values[1], 0, 0)
  assert(r.values[2] > 0)
end

check.raises("one for each of the 2 models", probe.disentanglement, net, { base = base, a, b }, { d })
check.raises("distance", probe.disentanglement, net, { base = base, a, b }, { d, e }, { distance = "l1" })
