-- SPDX-License-Identifier: Apache-2.0
-- Assignments against the optima of a file as tests/golden/align/README.md describes.
local check = dofile "tests/stdlib/bind/check.lua"
local decode = require "json.decode".decode

local lap = {}

-- index is an assignment of the matrix, and its costs add up to value.
function lap.valid(name, cost, index, value)
  local n, m, taken, rows, sum = cost.shape[1], cost.shape[2], {}, 0, 0
  for i = 1, n do
    local j = index[i]
    assert(j >= 0 and j <= m and not taken[j], name .. ": a column is taken twice")
    if j > 0 then taken[j], rows, sum = true, rows + 1, sum + cost[{ i, j }] end
  end
  check.equal(rows, math.min(n, m))
  assert(math.abs(sum - value) <= 1e-12 * (1 + math.abs(sum)), name .. ": the value is not the sum of the costs")
end

function lap.optimal(name, cost, o, want, tolerance)
  local index, value, prices = align.assignment(cost, o)
  lap.valid(name, cost:to "f64", index, value)
  local size = math.max(math.abs(want), 1e-300)
  assert(math.abs(value - want) <= (tolerance or 1e-12) * size, ("%s: %.17g, the optimum is %.17g"):format(name, value, want))
  return index, value, prices
end

function lap.all(folder)
  local file, count = model.load(folder .. "lap.safetensors"), 0
  local text = io.open(folder .. "lap.json"):read "a"
  local cases = decode(text)
  for name, c in pairs(cases.instances or cases) do
    if name ~= "corr_500" then
      local cost, o = file:tensor(name .. ".cost"), { maximise = c.maximize }
      if c.feasible == false then
        check.raises("no assignment", align.assignment, cost, o)
      else
        local index, value, prices = lap.optimal(name, cost, o, c.optimal)
        if c.unique == true then
          local col = file:tensor(name .. ".col")
          for i = 1, #index do check.equal(index[i], col[i] + 1) end
        end
        local again = align.assignment(cost, { maximise = c.maximize, start = prices })
        lap.valid(name .. " again", cost:to "f64", again, value)
      end
      count = count + 1
    end
  end
  return count, file, cases
end

return lap
