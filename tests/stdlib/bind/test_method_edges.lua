-- SPDX-License-Identifier: Apache-2.0
-- Edges of method rows, each with a value by hand: tolerances and shares of zero, votes that cancel,
-- nothing to work on, heads and embeddings under outputs of their own, f32 and f64 tensors in one model.
local check = require "check"

local function of(t) return model.new(t) end
local function row(v) return of { w = tensor(v) } end
local function values(m, name) return m:load():tensor(name or "w"):totable() end
local function most(t) return t:abs():max() end
local nothing = row { 0, 0, 0, 0 }

-- karcher with tol = 0: no angle, and directions that cancel
check.equal(values(merge.karcher { row { 3, 4 }, row { 3, 4 }, tol = 0 }), { 3.0, 4.0 })
check.equal(values(merge.karcher { row { 0, 0 }, row { 0, 0 }, tol = 0 }), { 0.0, 0.0 })
check.near(most(merge.karcher { row { 3, 4 }, row { -3, -4 }, tol = 0 }:load():tensor "w"), 4, 1e-6)

-- multislerp with eps = 0: zeros have no direction, and no length
check.equal(values(merge.multislerp { nothing, nothing, eps = 0 }), { 0.0, 0.0, 0.0, 0.0 })
check.near(values(merge.multislerp { nothing, row { 0, 2, 0, 0 }, eps = 0 })[2], 1, 1e-6)
check.equal(values(merge.multislerp { row { 1, 0 }, row { -1, 0 }, eps = 0 }), { 0.0, 0.0 })

-- pcb where less than one entry has a share: the best one keeps its own, and density = 0 none
do
  local a = row { 4, 2, 1, 3 }
  check.equal(values(merge.pcb { base = nothing, a, density = 0.1, clamp = 0 }), { 4.0, 0.0, 0.0, 0.0 })
  check.equal(values(merge.pcb { base = nothing, a, density = 0, clamp = 0 }), { 0.0, 0.0, 0.0, 0.0 })
end

-- ties, votes that cancel: plus, or what most entries of the whole model elected (minus here)
do
  local base = of { v = tensor { 0, 0 }, w = tensor { 0, 0 } }
  local a = of { v = tensor { 1, -2 }, w = tensor { -3, 2 } }
  local b = of { v = tensor { -1, -2 }, w = tensor { -3, -2 } }
  for _, method in ipairs { "ties", "dare_ties", "breadcrumbs_ties" } do
    local function merged(zero, name)
      local o = { base = base, a, b, density = 1, zero = zero, normalize = true }
      if method == "breadcrumbs_ties" then o.gamma = 0 end
      return values(merge[method](o), name)
    end
    check.equal(merged(nil, "v"), { 1.0, -2.0 }, method)
    check.equal(merged("majority", "v"), { -1.0, -2.0 }, method)
    check.equal(merged("plus", "w"), { -3.0, 2.0 }, method)
    check.equal(merged("majority", "w"), { -3.0, -2.0 }, method)
  end
end

-- ties, unequal weights: the mean of what agrees by its weights or by its number
do
  local o = { base = row { 0, 0 }, row { 2, 1 }, row { 4, -8 }, density = 1, weight = { 3, 1 }, lambda = 1 }
  check.equal(values(merge.ties(o)), { 2.5, -8.0 })
  o.mean_by = "count"
  check.equal(values(merge.ties(o)), { 5.0, -8.0 })
end

local function matrices(seed, shapes)
  local t = {}
  for name, shape in pairs(shapes) do
    seed = seed + 1
    t[name] = tensor.randn(shape, seed)
  end
  return of(t)
end

-- knots: dare_ties without any entry is the base; a density for the whole model is one
do
  local shapes = { w = { 4, 3 } }
  local base, a, b = matrices(1, shapes), matrices(2, shapes), matrices(3, shapes)
  check.equal(most((merge.knots { base = base, a, b, inner = "dare_ties", density = 0 } - base):load():tensor "w"), 0.0)
  local varied = by.name { { ".", 0.5 } }
  check.raises('use trim = "tensor"', merge.knots, { base = base, a, b, density = varied })
  merge.knots { base = base, a, b, density = varied, trim = "tensor" }
  merge.knots { base = base, a, b, density = varied, inner = "dare_ties" }
end

-- wudi in closed form: along what no task vector has, nothing, in f32 as in f64
do
  local function change(dtype)
    local m = {}
    for k = 1, 3 do m[k] = of { w = tensor.randn({ 2, 12 }, k):to(dtype) } end
    local merged = merge.wudi { base = m[1], m[2], m[3], solve = "closed" }
    check.equal(merged:dtype(), dtype)
    return (merged - m[1]):load():tensor "w":to "f64"
  end
  check.near(most(change "f32" - change "f64"), 0, 1e-5)
end

-- iso_c by the polar factor where models did not change a matrix
do
  local base = matrices(1, { w = { 4, 3 }, u = { 2, 5 } })
  local a = of { w = base:tensor "w", u = base:tensor "u" + tensor.randn({ 2, 5 }, 9) }
  local d = merge.iso_c { base = base, a, a, polar = true }:load()
  check.equal(most(d:tensor "w" - base:tensor "w"), 0.0)
  check.near(most(d:tensor "u" - merge.iso_c { base = base, a, a }:load():tensor "u"), 0, 1e-5)
end

-- tsv_c keeps heads and embeddings whole, under names that do not say what they are
do
  local shapes = { ["lm_head.weight"] = { 5, 3 }, ["model.embed_tokens.weight"] = { 5, 3 },
    ["model.layers.0.mlp.up_proj.weight"] = { 4, 3 }, ["model.layers.1.mlp.up_proj.weight"] = { 4, 3 } }
  local base, a, b = matrices(1, shapes), matrices(11, shapes), matrices(21, shapes)
  local kept = merge.tsv_c { base = base, a, b }
  check.equal(#kept, 2 + 2 * 3)
  local back = merge.tsv_task { base = base, kept, task = 2 }:load()
  for _, name in ipairs { "lm_head.weight", "model.embed_tokens.weight" } do
    check.near(most(back:tensor(name) - b:tensor(name)), 0, 1e-6, name)
  end
end

-- what is selected over the whole model is the same whatever the dtypes of its tensors
do
  local shapes = { u = { 4 }, v = { 5, 3 }, w = { 3, 4 } }
  local function recast(m, dtypes)
    local t = {}
    for _, name in ipairs(m:names()) do t[name] = m:tensor(name):to(dtypes[name] or "f64") end
    return of(t)
  end
  local mixed, wide = {}, {}
  for k = 1, 4 do
    local m = matrices(10 * k, shapes)
    mixed[k], wide[k] = recast(m, { v = "f32" }), recast(m, {})
  end
  for method, o in pairs { pcb = {}, ties = {}, consensus_ties = {}, knots = {}, cosine_add_difference = { rescale = "model" } } do
    local function merged(m)
      local call = { base = m[1], m[2], m[3], method ~= "cosine_add_difference" and m[4] or nil }
      for key, v in pairs(o) do call[key] = v end
      return merge[method](call):load()
    end
    local x, y = merged(mixed), merged(wide)
    for name in pairs(shapes) do
      check.near(most(x:tensor(name):to "f64" - y:tensor(name)), 0, 1e-5, method .. " " .. name)
    end
  end
end

-- how many models
check.raises("merge.nearswap takes exactly 1 model besides the base, got 2", merge.nearswap,
  { base = nothing, nothing, nothing, t = 1 })
check.raises("merge.clamp takes at least 2 models, got 1", merge.clamp, { nothing })

-- task vectors where models belong
do
  local base, a = row { 1, 2 }, row { 3, 4 }
  check.raises("is a task vector (mass 0) among models", merge.ties, { base = base, a, a - base })
  check.raises("is a task vector (mass 0) among models", merge.nlerp, { base = base - a, a, a })
  check.equal(merge.task_arithmetic { base = base - base, a - base, base - a }:mass(), 0.0)
  check.raises("weight = -1 of memory is less than 0", merge.karcher, { a, a, weight = -1 })
end
