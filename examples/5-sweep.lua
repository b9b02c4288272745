-- SPDX-License-Identifier: Apache-2.0
-- Five methods over densities: accuracy on all ten digits as a table and as a plot. With an argument,
-- `tarn examples/5-sweep.lua sweep.svg`, the plot is saved as SVG too.
local data = "examples/data/"
local base = model.open(data .. "base.safetensors")
local low, high = model.open(data .. "low.safetensors"), model.open(data .. "high.safetensors")
local digits = model.load(data .. "digits.safetensors")
local images, labels = digits["test.images"], digits["test.labels"]

local function accuracy(m)
  m = m:load()
  local x = (images:matmul(m["fc1.weight"]:t()) + m["fc1.bias"]):relu()
  x = (x:matmul(m["fc2.weight"]:t()) + m["fc2.bias"]):relu()
  x = x:matmul(m["fc3.weight"]:t()) + m["fc3.bias"]
  return 100 * (x:argmax(2) - 1):eq(labels):to("f32"):mean()
end

local densities = { 0.05, 0.1, 0.2, 0.4, 0.7, 1 }
local sweep = { x = densities, title = "all digits", xlabel = "density", ylabel = "accuracy, %", xlog = true }
print(("%-18s" .. ("%7g"):rep(#densities)):format("density", table.unpack(densities)))
for _, method in ipairs { "ties", "dare_linear", "dare_ties", "breadcrumbs", "task_arithmetic" } do
  local row = {}
  for i, density in ipairs(densities) do
    local options = { base = base, low, high, weight = 0.7, density = density, normalize = false }
    if method:find "dare" then options.seed = 1 end
    if method == "task_arithmetic" then options.density = nil end -- keeps everything
    row[i] = accuracy(merge[method](options))
  end
  sweep[#sweep + 1] = { method, row }
  print(("%-18s" .. ("%7.1f"):rep(#row)):format(method, table.unpack(row)))
end

local fig = plot.line(sweep)
fig:print { width = 76, height = 14, ascii = true }
if arg[1] then fig:save(arg[1]) end
