-- SPDX-License-Identifier: Apache-2.0
-- A curve between two networks on Fashion-MNIST: its bend, trained with the recipe of the reference, does as well as the
-- reference's own bend. Skipped where the reference or the data are not there.
local lines = dofile "tests/stdlib/probe/lines.lua"
local decode = require "json.decode".decode
local near = lines.near

local folder = "../shared/oracles/landscape/probes/"
local file = io.open(folder .. "fm.json")
local ok, d = pcall(data.fashion_mnist, { normalise = { 0.286, 0.353 } })
if not file or not ok then
  print("skipped: " .. (file and "Fashion-MNIST is not there" or folder .. " is not there"))
  os.exit(0)
end
local want = decode(file:read "a").bezier
file:close()

local function load(name) return model.load(folder .. "fm_" .. name .. ".safetensors") end
local a, b, bend = load "A", load "B", load "bend"
local net = nn.mlp { 784, 64, 32, 10 }
local f = net:loss(d.train:batch(1, 10000))
local begun = os.clock()

-- The stored bend: the same curve, within f32.
local stored = probe.curve(net, a, b, { data = d.train, start = { bend }, steps = 0 })
local there = stored:path(f, { t = want.t })
near(there.loss, want.curve.train10k.loss, 2e-5, "stored bend")

-- Own bends: 2808 steps of 128 images at 0.05, momentum 0.9, in three seeds, which
-- differ among each other by 0.003.
for seed = 1, 3 do
  local c = probe.curve(net, a, b, { data = d.train, steps = 2808, batch = 128, lr = 0.05, seed = seed })
  local p = c:path(f, { t = want.t })
  print(seed, c, ("max %.4f, mean %.4f; stored bend %.4f, %.4f; straight %.3f"):format(p.statistics.loss.max,
    p.statistics.loss.mean, there.statistics.loss.max, there.statistics.loss.mean, want.straight.train10k.max_loss))
  local ends = math.max(p.loss[1], p.loss[#p.loss])
  assert(p.statistics.loss.max <= 1.15 * ends and want.straight.train10k.max_loss > 3 * ends, "acceptance")
  assert(p.statistics.loss.max <= there.statistics.loss.max + 0.003, "greatest loss")
  assert(p.statistics.loss.mean <= there.statistics.loss.mean + 0.003, "mean loss")
end
local chain = probe.curve(net, a, b, { kind = "polychain", data = d.train, steps = 2808, batch = 128, lr = 0.05 })
local p = chain:path(f, { t = want.t })
print(chain, p.statistics.loss.max)
assert(p.statistics.loss.max <= 1.15 * math.max(p.loss[1], p.loss[#p.loss]), "chain")
print(("%.1f s of processor"):format(os.clock() - begun))
