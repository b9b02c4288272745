-- SPDX-License-Identifier: Apache-2.0
-- What tests of curvature share: stored values, quadratics with known spectra, the small networks.
local decode = require "json.decode".decode
local tiny = dofile "tests/stdlib/probe/tiny.lua"
local curved = {}

do
  local file <close> = io.open "tests/golden/curvature/values.json"
  curved.values = decode(file:read "a")
end

-- name -> H, f(x) = x'Hx/2 - b'x, x, its numbers.
function curved.quadratic(name)
  local m = model.load "tests/golden/curvature/quadratic.safetensors"
  local h, b, x = m:tensor(name .. ".H"), m:tensor(name .. ".b"), m:tensor(name .. ".x")
  return h, function(v) return v:dot(h:matmul(v)) / 2 - b:dot(v) end, x, curved.values.quadratic[name], b
end

-- act -> loss, theta, data, net, its numbers.
function curved.tiny(act)
  local net, theta, _, d = tiny.read(act)
  return net:loss(d), theta, d, net, curved.values[act]
end

-- The largest difference of two lists, over the largest value.
function curved.off(got, want)
  local worst, size = 0, 0
  for i, v in ipairs(got) do worst, size = math.max(worst, math.abs(v - want[i])), math.max(size, math.abs(want[i])) end
  return worst / size
end

return curved
