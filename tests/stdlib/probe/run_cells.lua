-- SPDX-License-Identifier: Apache-2.0
-- Probes that take the losses of many points side by side, of a small network with batch norm: every number to
-- the bit, for test_cells.lua, which runs this with several numbers of threads. arg[1]: "serial": point by point.
local net = nn.conv { 3, "M", input = { 8, 8, 1 } }
local x = tensor.randn({ 90, 8, 8, 1 }, 3)
local f = net:loss({ x = x, y = tensor.arange(90) % 10 }, { batch = 40 })
local a, b, c = net:init { seed = 1 }, net:init { seed = 2 }, net:init { seed = 3 }

local function put(...)
  for _, v in ipairs { ... } do
    if type(v) == "table" then
      for _, one in ipairs(v) do put(one) end
    else
      io.write(("%a "):format(v))
    end
  end
end

local p = probe.plane(f, { a, b, c }, { points = { 5, 4 } })
if arg[1] == "serial" then -- what was computed side by side, by itself
  local u, v = b - a, c - a
  u = u * (1 / u:norm())
  v = v - u * u:dot(v)
  v = v * (1 / v:norm())
  for i, s in ipairs(p.x) do
    for j, t in ipairs(p.y) do
      local r = f:report((s == 0 and a or a + s * u) + t * v)
      p.loss[i][j], p.error[i][j] = r.loss, r.error
    end
  end
end
put(p.loss, p.error)
for _, m in ipairs(p.marks) do put(m.loss, m.loss_here) end
put(probe.path(f, a, b, { points = 9 }).loss, probe.path(f, a, b, { points = 5, bn = { x = x } }).loss)
put(probe.path(f, a, b, { points = 5, bn = "keep" }).error, probe.barriers(f, { a, b, c }, { points = 4 }).matrix)
put(probe.exchange(f, a, b, { points = 3 }).loss, probe.region(f, { a, b, c }, { n = 6 }).quantiles.hull)
