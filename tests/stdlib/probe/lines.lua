-- SPDX-License-Identifier: Apache-2.0
-- What the tests of paths and planes share: the networks of tests/golden/landscape, and small functions of models.
local decode = require "json.decode".decode
local lines = {}

-- {net, theta, other, dir1, dir2, f, want} of "relu" or "tanh".
function lines.tiny(act)
  local stem = "tests/golden/landscape/lines_" .. act
  local m = model.load(stem .. ".safetensors")
  local file <close> = io.open(stem .. ".json")
  local out = { want = decode(file:read "a"), net = nn.mlp { 6, 10, 8, 4, act = act } }
  for _, name in ipairs { "theta", "other", "dir1", "dir2" } do
    local list = {}
    for _, p in ipairs(out.net:params()) do list[#list + 1] = { p.name, m:tensor(name .. "." .. p.name) } end
    out[name] = model.new(list, name:find "dir" and { mass = 0 } or nil)
  end
  out.f = out.net:loss { x = m:tensor "x", y = m:tensor "y" }
  return out
end

function lines.surfaces()
  local file <close> = io.open "tests/golden/landscape/surfaces.json"
  return decode(file:read "a")
end

-- A model of one vector w.
function lines.point(...)
  return model.new { { "w", tensor({ ... }, { dtype = "f64" }) } }
end

function lines.near(got, want, tolerance, what)
  if type(want) == "table" then
    assert(#got == #want, ("%s: %d values, expected %d"):format(what, #got, #want))
    for i = 1, #want do lines.near(got[i], want[i], tolerance, ("%s[%d]"):format(what, i)) end
  else
    assert(math.abs(got - want) <= tolerance, ("%s: got %.17g, expected %.17g"):format(what, got, want))
  end
end

return lines
