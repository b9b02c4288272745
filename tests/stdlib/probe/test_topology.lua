-- SPDX-License-Identifier: Apache-2.0
-- probe.topology: merge trees of known surfaces on grids, chains, graphs, plateaus, values that are not finite.
local check = dofile "tests/stdlib/bind/check.lua"
local lines = dofile "tests/stdlib/probe/lines.lua"
local near = lines.near

local function grid(f, xr, yr, n)
  local rows = {}
  for i = 1, n do
    rows[i] = {}
    for j = 1, n do
      rows[i][j] = f(xr[1] + (xr[2] - xr[1]) * (i - 1) / (n - 1), yr[1] + (yr[2] - yr[1]) * (j - 1) / (n - 1))
    end
  end
  return rows
end

-- Against reference pairs, whose order among equal persistence is free.
local function compare(r, want, tolerance, what)
  check.equal(r.minima, want.minima, what)
  near(r.global_min, want.global_min, tolerance, what .. " least")
  near(r.total_persistence, want.total_persistence, tolerance * 10, what .. " total persistence")
  for k, p in ipairs(want.pairs_birth_saddle) do
    near({ r.pairs[k].birth, r.pairs[k].saddle }, p, tolerance, what .. " pair " .. k)
  end
  near(r.smad, want.total_persistence / (want.minima - 1), tolerance * 10, what .. " smad")
end

local s = lines.surfaces()
do
  local q = s.muller_brown.parameters
  local function height(x, y)
    local sum = 0
    for k = 1, 4 do
      local u, v = x - q.x0[k], y - q.y0[k]
      sum = sum + q.A[k] * math.exp(q.a[k] * u * u + q.b[k] * u * v + q.c[k] * v * v)
    end
    return sum
  end
  for _, name in ipairs { "merge_tree_grid", "merge_tree_grid_coarse" } do
    local w = s.muller_brown[name]
    compare(probe.topology(grid(height, w.x_range, w.y_range, w.n)), w, 1e-9, name)
  end
  -- the saddle of the two deep basins is the true one to the grain of the grid
  local w = s.muller_brown.merge_tree_grid
  local r = probe.topology(grid(height, w.x_range, w.y_range, w.n))
  near(r.pairs[1].saddle, s.muller_brown.critical[4].value, 0.01, "saddle")
end
do
  local w = s.egg_carton.merge_tree_grid
  local function height(x, y) return 2 - math.cos(x) * math.cos(y) - (math.cos(x) + math.cos(y)) / 2 end
  compare(probe.topology(grid(height, w.x_range, w.y_range, w.n)), w, 1e-9, "egg carton")
end
do
  local function rastrigin(x, y)
    return 20 + x * x - 10 * math.cos(2 * math.pi * x) + y * y - 10 * math.cos(2 * math.pi * y)
  end
  local r = probe.topology(grid(rastrigin, { -5.12, 5.12 }, { -5.12, 5.12 }, 101))
  check.equal(r.minima, 121)
  check.equal(#plot.tree(r).roots, 1)
  assert(plot.tree(r):text { ascii = true }:find "are not shown")
end
do -- by hand: a chain, its tree
  local r = probe.topology { 1, 3, 0, 2, 1, 4 }
  check.equal({ r.minima, r.points, r.components, r.skipped, r.global_min }, { 3, 6, 1, 0, 0 })
  check.equal({ r.pairs[1].birth, r.pairs[1].saddle, r.pairs[1].place[1], r.pairs[1].saddle_place[1], r.pairs[1].size }, { 1, 3, 1, 2, 1 })
  check.equal({ r.pairs[2].birth, r.pairs[2].saddle, r.pairs[2].place[1], r.pairs[2].size }, { 1, 2, 5, 1 })
  check.equal({ r.total_persistence, r.smad }, { 3.0, 1.5 })
  local tree = r.trees[1]
  check.equal({ tree.value, #tree.kids, tree.kids[1].value, tree.kids[1].kids[1].value, tree.kids[2].value }, { 3, 2, 2, 0, 1 })
  check.equal(r:pruned(1.5)[1].kids[1].kids, nil)
  check.equal(r:pruned(2.5)[1].kids, nil)
end
do -- one bowl; a plateau is one minimum; corners join what edges do not
  check.equal(probe.topology({ { 2, 1, 2 }, { 1, 0, 1 }, { 2, 1, 2 } }).minima, 1)
  check.equal(probe.topology({ 5, 1, 1, 1, 5 }).minima, 1)
  local diagonal = { { 0, 9 }, { 9, 0 } }
  check.equal(probe.topology(diagonal).minima, 2)
  check.equal(probe.topology(diagonal, { corners = true }).minima, 1)
  check.equal(probe.topology(tensor(diagonal)).pairs[1].saddle, 9.0)
end
do -- a graph: two minima joined by a path; one that nothing joins
  local r = probe.topology({ 0, 5, 1, 2 }, { edges = { { 1, 2 }, { 2, 3 } } })
  check.equal({ r.minima, r.components, r.pairs[1].saddle }, { 3, 2, 5 })
  check.equal(#r.trees, 2)
end
do -- a wall of infinities parts; NaN counts as one
  local r = probe.topology { 0, math.huge, 1, 0 / 0, 2 }
  check.equal({ r.minima, r.components, r.skipped, #r.pairs }, { 3, 3, 2, 0 })
  assert(tostring(r):find "2 points are not finite")
end
do -- of paths and planes
  local p = probe.path(function(x) return (x * x - 1) ^ 2 end, -2, 2, { points = 41 })
  local r = probe.topology(p)
  check.equal(r.minima, 2)
  near(r.pairs[1].persistence, 1, 1e-12, "double well")
  local name = os.tmpname() .. ".csv"
  r:save(name)
  local rows = {}
  for line in io.lines(name) do rows[#rows + 1] = line end
  os.remove(name)
  check.equal(rows[1], "birth,saddle,persistence,points,i,j")
end
check.raises("there are no values", probe.topology, {})
check.raises("no value is finite", probe.topology, { 0 / 0 })
check.raises("edge 1 names a point that is not there", probe.topology, { 1, 2 }, { edges = { { 1, 3 } } })
check.raises("row 2 has not as many values as row 1", probe.topology, { { 1, 2 }, { 1 } })
