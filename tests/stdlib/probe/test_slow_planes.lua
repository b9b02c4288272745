-- SPDX-License-Identifier: Apache-2.0
-- Planes, lines and single layers of a trained pair on Fashion-MNIST, in f32 against reference values in f64, beside the
-- tree. Skipped where they or the data are not there.
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
local want = decode(file:read "a")
file:close()

local function load(name) return model.load(folder .. "fm_" .. name .. ".safetensors") end
local a, b, both, io_ = load "A", load "B", load "dirs", load "io"
local net = nn.mlp { 784, 64, 32, 10 }
local chosen = d.train:batch(io_:tensor "indices" + 1)
local f = net:loss { x = chosen.x, y = chosen.y }

local function direction(name)
  local list = {}
  for _, p in ipairs(net:params()) do list[#list + 1] = { p.name, both:tensor(name .. "." .. p.name) } end
  return model.new(list, { mass = 0 })
end
local d1, d2 = direction "dir1", direction "dir2"

-- Relative to the size of each loss: f32.
local function compare(got, wanted, what)
  for i, row in ipairs(wanted) do
    for j, v in ipairs(row) do near(got[i][j], v, 2e-5 * math.max(1, v), ("%s[%d][%d]"):format(what, i, j)) end
  end
end

local function plane(u, v, range)
  return probe.plane(f, a, { directions = { u, v }, xlim = { -range, range }, ylim = { -range, range }, points = 11 }).loss
end
compare(plane(d1, d2, want.plane.raw_range), want.plane.raw, "raw")
for _, bias in ipairs { "zero", "copy" } do
  local function scaled(v) return probe.direction(a, { from = v, bias = bias }) end
  compare(plane(scaled(d1), scaled(d2), want.plane.filter_range), want.plane["filter_bias_" .. bias], bias)
end
compare({ probe.path(f, a, b, { t = want.line.t }).loss }, { want.line.loss }, "line")
local r = probe.exchange(f, a, b, { t = want.layerwise.t })
for k, name in ipairs(r.layers) do compare({ r.loss[k] }, { want.layerwise.loss[name] }, name) end

-- A Bezier curve by its stored bend, over sets of images that are not kept: the same values as the reference's.
local bend = load "bend"
local function curve(t) return (1 - t) ^ 2 * a + 2 * t * (1 - t) * bend + t ^ 2 * b end
for set, on in pairs { train10k = d.train:batch(1, 10000), test = d.test } do
  local g = net:loss(on)
  for kind, p in pairs { curve = probe.barrier(g, { curve = curve, t = want.bezier.t }),
    straight = probe.barrier(g, a, b, { t = want.bezier.t }) } do
    local w = want.bezier[kind][set]
    compare({ p.path.loss }, { w.loss }, kind .. " " .. set)
    for _, name in ipairs { "barrier_loss", "mid_loss_excess", "max_loss" } do near(p[name], w[name], 2e-5, kind .. " " .. name) end
    for _, name in ipairs { "barrier_error", "instability_error" } do near(p[name], w[name], 3e-4, kind .. " " .. name) end
    print(set, kind, p)
  end
end
