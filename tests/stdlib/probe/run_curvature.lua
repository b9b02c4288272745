-- SPDX-License-Identifier: Apache-2.0
-- Prints curvature of a small network on the digits with all digits of a number; test_slow_curvature.lua runs it with
-- different numbers of threads.
local m = model.load "examples/data/digits.safetensors"
local d = { x = m:tensor "train.images", y = m:tensor "train.labels" }
local net = nn.mlp { 64, 128, 64, 10 }
local theta = model.load "examples/data/base.safetensors"
local H <close> = net:loss(d, { batch = 500 }):linearize(theta)
local function show(...)
  for _, v in ipairs { ... } do io.write(("%a "):format(v)) end
  print()
end
show(table.unpack(probe.eigenvalues(H, { top = 5, basis = 12, tolerance = 1e-3 }).values))
show(probe.trace(H, { samples = 6 }).trace, probe.trace(H, { samples = 6, method = "hutch++" }).trace)
show(table.unpack(probe.spectrum(H, { steps = 12, starts = 1, kind = "ggn" }).nodes[1]))
show(probe.sharpness(H.f, theta, { steps = 5, restarts = 1 }).value)
