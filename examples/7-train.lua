-- SPDX-License-Identifier: Apache-2.0
-- Two networks trained apart: each is good, and between them there is a hill of loss. Two that part ways
-- after a few epochs together have none, which is why fine-tuned models can be merged as they are.
-- With an argument, `tarn examples/7-train.lua path.svg`, the plot is saved as SVG too.
local d   = data.digits()
local net = nn.mlp { 64, 64, 10 }
local a   = train.fit(net, d.train, { seed = 1, epochs = 20, batch = 32 })
local b   = train.fit(net, d.train, { seed = 2, epochs = 20, batch = 32 })
local f   = net:loss(d.test)

local start = train.fit(net, d.train, { seed = 1, epochs = 5, batch = 32 })
local a2    = train.fit(net, d.train, { start = start, seed = 1, epochs = 15, batch = 32 })
local b2    = train.fit(net, d.train, { start = start, seed = 2, epochs = 15, batch = 32 })

-- The loss along the straight line, and how far it rises above the line between its ends (Frankle et al.
-- 2020, arXiv:1912.05671).
local ts = {}
for i = 0, 20 do ts[#ts + 1] = i / 20 end
local function path(p, q)
  local values, barrier = {}, 0
  for i, t in ipairs(ts) do values[i] = f((1 - t) * p + t * q) end
  for i, t in ipairs(ts) do
    barrier = math.max(barrier, values[i] - (1 - t) * values[1] - t * values[#values])
  end
  return values, barrier
end

local function per_cent(m) return ("%.0f %%"):format(100 * f:report(m).accuracy) end
print(net)
print(("%-20s %8s %8s %10s %8s"):format("accuracy", "one", "other", "half-way", "barrier"))
local fig = { x = ts, title = "loss between two networks", xlabel = "t", ylabel = "loss" }
for _, row in ipairs { { "trained apart", a, b }, { "parted at epoch 5", a2, b2 } } do
  local name, p, q = table.unpack(row)
  local values, barrier = path(p, q)
  print(("%-20s %8s %8s %10s %8.2f"):format(name, per_cent(p), per_cent(q), per_cent(0.5 * (p + q)), barrier))
  fig[#fig + 1] = { name, values }
end
fig = plot.line(fig)
fig:print { width = 70, height = 12, ascii = true }
if arg[1] then fig:save(arg[1]) end
