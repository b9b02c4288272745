-- SPDX-License-Identifier: Apache-2.0
-- Models given beside the others: in plans, in files, in errors.
local folder = os.tmpname()
os.remove(folder)
assert(os.execute("mkdir '" .. folder .. "'"))
local function path(name) return folder .. "/" .. name end
local function refused(want, f, ...)
  local ok, err = pcall(f, ...)
  assert(not ok, "not refused: " .. want)
  assert(tostring(err):find(want, 1, true), tostring(err))
end

local base = model.open "examples/data/base.safetensors"
local low, high = model.open "examples/data/low.safetensors", model.open "examples/data/high.safetensors"
local function squares(m) return (m - base):map(function(t) return t * t + 1e-4 end) end
squares(low):save(path "flow")
squares(high):save(path "fhigh")
local fisher = { model.open(path "flow"), model.open(path "fhigh") }

-- A plan holds them: saved, replayed, and the same as from memory.
local merged = merge.fisher { low, high, fisher = fisher, floor = 0 }
merged:save(path "out")
assert(model.replay(path "out"))
local own = merge.fisher { low:load(), high:load(), fisher = { fisher[1]:load(), fisher[2]:load() }, floor = 0 }
assert((merged - own):norm() == 0)
local w, p, q = "fc2.weight", squares(low):load(), squares(high):load()
local want = (p[w] * low[w]:load() + q[w] * high[w]:load()) / (p[w] + q[w])
assert((own[w] - want):abs():max() < 1e-6)
local matched = merge.gradient_matching { base = base, low, high, fisher = fisher, base_fisher = fisher[1] }
matched:save(path "matched")
assert(model.replay(path "matched"))
assert(matched:mass() == 1 and tostring(matched:plan()):find "gradient_matching")

-- Statistics of fewer tensors, in shapes of their own.
local x = tensor.randn({ 40, 64 }, 1)
local grams = model.new { ["fc1.weight"] = x:t():matmul(x) / 40 }
grams:save(path "grams")
local layers = merge.regmean { low, high, gram = { model.open(path "grams"), model.open(path "grams") } }
layers:save(path "regmean")
assert(model.replay(path "regmean"))
assert((layers - merge.linear { low, high }):norm(math.huge) < 1e-5) -- equal moments: the mean
local noted = {}
for _, row in ipairs(layers:plan():explain()) do noted[row.name] = row.note end
assert(noted["fc2.weight"] == "mean: no Gram matrix of its inputs" and noted["fc1.weight"] == nil)

refused("merge.fisher: fisher is missing", merge.fisher, { low, high })
refused("fisher has 1 for 2 models", merge.fisher, { low, high, fisher = { fisher[1] } })
refused("option 'fisher' must be a list of models", merge.fisher, { low, high, fisher = fisher[1] })
refused("option 'base_fisher' must be a model", merge.gradient_matching,
  { base = base, low, fisher = { fisher[1] }, base_fisher = 1 })
refused("did you mean 'fisher'", merge.fisher, { low, high, fischer = fisher })
refused("has no tensor fc1.bias", merge.fisher, { low, high, fisher = { grams, grams } })
refused("is not [64, 64]", merge.regmean, { low, high, gram = { fisher[1], fisher[2] } })
refused("takes no", merge.linear, { low, high, base = base })

local row
for _, r in ipairs(merge.methods()) do row = r.name == "gradient_matching" and r or row end
assert(row.statistics[1].name == "fisher" and row.statistics[1].required and not row.statistics[1].of_base)
assert(row.statistics[2].name == "base_fisher" and row.statistics[2].of_base and not row.statistics[2].required)
os.execute("rm -r '" .. folder .. "'")
