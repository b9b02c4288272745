-- SPDX-License-Identifier: Apache-2.0
-- Losses of many points side by side: the bytes of one after the other for any number of threads, and journals that
-- go on after a kill at any point.
local check = dofile "tests/stdlib/bind/check.lua"

local function run(threads, how)
  local pipe = io.popen(('"$(readlink /proc/$PPID/exe)" --memory 400M --threads %d tests/stdlib/probe/run_cells.lua %s'):format(threads, how))
  local text = pipe:read "a"
  assert(pipe:close())
  return text
end
do
  local want = run(2, "serial")
  assert(select(2, want:gsub("%S+", "")) > 80)
  for threads = 1, 3 do check.equal(run(threads, ""), want) end
end

-- also where rows are left out of the mean and where nothing is counted right or wrong
do
  local net, x = nn.mlp { 5, 4, 3 }, tensor.randn({ 70, 5 }, 1)
  local a, b, labels = net:init { seed = 1 }, net:init { seed = 2 }, tensor.arange(70) % 4 - 1
  for _, f in ipairs {
    net:loss({ x = x, y = labels }, { ignore_index = -1, batch = 32 }),
    net:loss({ x = x, y = tensor.randn({ 70, 3 }, 2) }, { loss = "mse" }),
  } do
    local p = probe.path(f, a, b, { points = 11 })
    for k, t in ipairs(p.t) do
      local m = t == 0 and a or t == 1 and b or (1 - t) * a + t * b
      local r = f:report(m)
      check.equal({ p.loss[k], p.error and p.error[k], p.n }, { r.loss, r.error, r.n })
      check.equal(r.loss, f(m))
    end
  end
end

-- a journal that was cut anywhere gives the same plane, and what it holds is not computed again
do
  local net, x = nn.mlp { 5, 4, 3 }, tensor.randn({ 70, 5 }, 1)
  local f = net:loss { x = x, y = tensor.arange(70) % 3 }
  local theta, name = net:init { seed = 1 }, os.tmpname()
  os.remove(name)
  local function plane() return probe.plane(f, theta, { points = 6, journal = name }) end
  local want = plane()
  local lines = {}
  for line in io.lines(name) do lines[#lines + 1] = line end
  check.equal(#lines, 1 + 36 + 1)
  for _, kept in ipairs { 1, 8, 9, 20, 37 } do
    local file = io.open(name, "w")
    file:write(table.concat(lines, "\n", 1, kept), "\n")
    file:close()
    local got = plane()
    check.equal(got.loss, want.loss)
    check.equal(got.error, want.error)
    local after = {}
    for line in io.lines(name) do after[#after + 1] = line end
    check.equal(after, lines)
  end
  os.remove(name)
end
