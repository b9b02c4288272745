-- SPDX-License-Identifier: Apache-2.0
-- Merges by every method, and algebra, into a folder; run by test_same_bytes.sh.
-- usage: tarn same_bytes.lua OUT BASE A B C
local out = arg[1]
local base, a, b, c = model.open(arg[2], { label = "base" }), model.open(arg[3], { label = "a" }),
  model.open(arg[4], { label = "b" }), model.open(arg[5], { label = "c" })

local ramp = by.depth { 0.1, 0.9, embed = 0.3, other = 0.5 }
local models = {
  linear = merge.linear { a, b, c, weight = { ramp, 0.5, 1 } },
  slerp = merge.slerp { a, b, t = ramp },
  task = merge.task_arithmetic { base = base, a, b, weight = { 0.6, ramp } },
  ties = merge.ties { base = base, a, b, c, density = 0.3 },
  ties_tensor = merge.ties { base = base, a, b, trim = "tensor", density = ramp, rescale = "l1" },
  dare = merge.dare_linear { base = base, a, b, seed = 3 },
  dare_ties = merge.dare_ties { base = base, a, b, c, seed = 4, density = { 0.2, 0.5, 0.9 }, rescale = "l1" },
  rows = merge.nuslerp { base = base, a, b, axis = "row" },
  stock_rows = merge.model_stock { base = base, a, b, c, axis = "row", mean = "angle" },
  algebra = base + 0.4 * (a - base) + 0.3 * (b - base):only "weight",
  map = merge.map { a, b, apply = function(t)
    local d = t[1] - t[2]
    return (t[1] + (d * d):sum():sqrt() * d:tanh()):clamp(-1, 1) + 1e-3 * d:exp()
  end },
  stats = merge.map { base = base, a, stats = function(t) return { g = ((t[1] - t.base) * t.base):sum() } end,
    apply = function(t, s) return t.base + (s.g > 0 and 0.3 or 0.7) * (t[1] - t.base) end },
}

-- Every row as it comes, all of its operands used.
local needed = { nearswap = { t = 0.01 }, lines = { alpha = 0.5, beta = 1 }, emr = { task = 2 } }
-- Statistics that fit: squares for what is per entry, products of rows or columns for what is per layer.
local function squares(m) return m:map(function(t) return t * t end) end
local function products(m, outputs)
  local tensors = {}
  for name, t in pairs(m) do
    if t.rank == 2 then
      t = t:load()
      tensors[name] = outputs and t:matmul(t:t()) or t:t():matmul(t)
    end
  end
  return model.new(tensors)
end
local statistics = { fisher = squares, base_fisher = squares, gram = products, inputs = products,
  outputs = function(m) return products(m, true) end }
local kept = { unmask = "tall_masks", tsv_task = "tsv_c" }
for _, row in ipairs(merge.methods()) do
  local o = needed[row.name] or {}
  if kept[row.name] then
    o = { merge[kept[row.name]] { base = base, a, b }, task = 2 }
  else
    table.move({ a, b, c }, 1, math.min(row.most or 3, 3), 1, o)
  end
  for _, s in ipairs(row.statistics) do
    local make = statistics[s.name]
    o[s.name] = s.of_base and make(base) or { make(a), make(b), make(c) }
  end
  o.base = row.base ~= "none" and base or nil
  models["row_" .. row.name] = merge[row.name](o)
end
for name, m in pairs(models) do
  m:save(out .. "/" .. name .. ".safetensors")
end
local f = assert(io.open(out .. "/numbers", "w"))
f:write(("%.17g %.17g %.17g %.17g\n"):format((a - base):norm(), (a - base):norm(1), a:cosine(b), (a - b):dot(c - base)))
f:close()
