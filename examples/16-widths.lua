-- SPDX-License-Identifier: Apache-2.0
-- # The barrier between two networks, against their width
--
-- Two networks that are trained apart are good, and on the straight line between them the loss is high. How much of
-- that hill is there only because the second network has its units in another order (Entezari et al. 2021,
-- arXiv:2110.06296)? Three lines for each width: as they are; with the second network's units matched to those of the
-- first (`align.weights`, Ainsworth et al. 2022, arXiv:2209.04836); and with the spread that features lose between
-- two networks given back (`align.repair`, REPAIR, Jordan et al. 2022, arXiv:2211.08403).
--
-- `tarn doc examples/16-widths.lua` makes a page of this, on digits, in seconds; `tarn doc examples/16-widths.lua
-- fashion` the same on Fashion-MNIST (`apt install dataset-fashion-mnist`), in minutes.
local on_fashion = arg[1] == "fashion"
local d = on_fashion and data.fashion_mnist { normalise = { 0.286, 0.353 } } or data.digits()
local input = on_fashion and 784 or 64
local widths = on_fashion and { 8, 32, 128, 512 } or { 4, 8, 16, 32, 64 }
local how = on_fashion and { epochs = 10, batch = 500 } or { epochs = 30, batch = 32 }

-- ## Training, matching, measuring
--
-- One hidden layer; everything follows from the seeds. REPAIR needs images, but no labels: it makes a network for each
-- point of the line, from the statistics of 2000 training images. The barrier is the greatest height above the chord.
local function paths(width)
  local net = nn.mlp { input, width, 10 }
  local function trained(seed)
    return train.fit(net, d.train, { seed = seed, epochs = how.epochs, batch = how.batch, quiet = true })
  end
  local a, b = trained(1), trained(2)
  local f = net:loss(d.test)
  local moved = align.weights(net, a, b, { restarts = 5, seed = 1 }):apply(b)
  local function repaired(t)
    if t == 0 or t == 1 then return t == 0 and a or moved end
    return (align.repair(net, a, moved, { t = t, data = d.train, examples = 2000 }))
  end
  return probe.path(f, a, b, { points = 11, label = "as they are" }),
    probe.path(f, a, moved, { points = 11, label = "matched" }),
    probe.path(f, { curve = repaired, points = 11, label = "matched, with REPAIR" })
end

-- ## What came out
--
-- Barriers of the loss on the test images, and the error half-way (the two networks' own error in the first column).
local loss, lines = { {}, {}, {} }, {}
print(("%5s %7s  %-20s %-20s %-20s"):format("", "", "as they are", "matched", "with REPAIR"))
local both = ("%9s %10s"):format("barrier", "half-way")
print(("%5s %7s  %s %s %s"):format("width", "error", both, both, both))
for i, width in ipairs(widths) do
  lines = { paths(width) }
  local row = { ("%5d %5.0f %% "):format(width, 50 * (lines[1].error[1] + lines[1].error[11])) }
  for k, p in ipairs(lines) do
    loss[k][i] = p:barrier().barrier_loss
    row[k + 1] = ("%9.2f %8.0f %%"):format(loss[k][i], 100 * p.error[6])
  end
  print(table.concat(row, " "))
end

-- The hill falls with the width, and after matching it is all but gone. REPAIR has little to add behind one hidden
-- layer; spread is lost anew in each layer.
plot.line { x = widths, { "as they are", loss[1] }, { "matched", loss[2] }, { "matched, with REPAIR", loss[3] },
  xlog = true, xlabel = "width", ylabel = "barrier of the test loss" }:print { width = 70, height = 12, ascii = true }

-- The three lines of the widest network:
plot.path(table.unpack(lines)):print { width = 70, height = 10, ascii = true }
