-- SPDX-License-Identifier: Apache-2.0
-- How fast align.weights is, as a ratio to the same with NumPy and SciPy in one run (weights_reference.py):
--
--   tarn bench/align/weights.lua PYTHON [starts = 20] [width = 512]
--
-- PYTHON is that of an environment with SciPy. Two networks with initial weights are the hardest case: there is nothing
-- to find, so starts take many sweeps. Both use as many threads as they are given; processor seconds stand beside.
local python, starts, width = arg[1], tonumber(arg[2] or 20), tonumber(arg[3] or 512)
if not python then error("usage: tarn bench/align/weights.lua PYTHON [starts] [width]", 0) end

local net = nn.mlp { 784, width, width, width, 10 }
local a, b = net:init { seed = 1 }, net:init { seed = 2 }
local path = os.tmpname()
a:save(path .. ".a.safetensors")
b:save(path .. ".b.safetensors")

local cost = align.weights(net, a, b, { restarts = starts, dry = true })
local used, wall = os.clock(), nil
local began = os.time()
local p = align.weights(net, a, b, { restarts = starts, check = false, log = function(i) wall = i.seconds end })
used, wall = os.clock() - used, wall or os.time() - began
local sweeps = 0
for _, s in ipairs(p.starts) do sweeps = sweeps + s.sweeps end
local line = "%-10s %7.2f s wall, %7.2f s of processors, objective %.6f, %.1f sweeps a start"
print((line .. " (estimate %.1f s)"):format("tarn", wall, used, p.objective, sweeps / starts, cost.seconds))

local pipe = assert(io.popen(("%s bench/align/weights_reference.py %s.a.safetensors %s.b.safetensors %d"):format(python,
  path, path, starts)))
local said = pipe:read "l"
pipe:close()
for _, ending in ipairs { "", ".a.safetensors", ".b.safetensors" } do os.remove(path .. ending) end
local w, u, v, s = said:match "(%S+) (%S+) (%S+) (%S+)"
print(line:format("reference", w, u, v, s))
print(("ratio      %7.2f wall, %.2f of processors"):format(w / wall, u / used))
