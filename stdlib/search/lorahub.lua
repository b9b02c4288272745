-- SPDX-License-Identifier: Apache-2.0
-- Searching what a gradient does not reach: the weights of adapters, the parameters of a merge method. Both
-- are CMA-ES over a few numbers, with a merge between the numbers and the value.
return function(define, check, core)
  local expect = require "expect"(core.kind)

  local function called(what, f, role)
    return expect.one(what, role, f, "a function")
  end

  local function option(what, o, field, default, ok, want)
    local v = o[field]
    if v == nil then return default end
    if not ok(v) then error(("%s: %s is %s, got %s"):format(what, field, want, tostring(v)), 0) end
    return v
  end

  local function number(v) return type(v) == "number" and v == v end
  local function above_zero(v) return number(v) and v > 0 end
  local function count(v) return math.type(v) == "integer" and v >= 1 end

  -- ---- LoRAHub ----

  -- The adapters as vectors over the base's names, and as factors where all are such.
  local function adapters_of(what, list, base)
    if core.kind(base) ~= "model" then error(what .. ": expected a base model, got " .. core.kind(base), 0) end
    if core.kind(list) ~= "table" or #list == 0 then error(what .. ": expected a list of adapters", 0) end
    local vectors, factors = {}, {}
    for k, a in ipairs(list) do
      if type(a) == "string" then
        vectors[k] = model.lora(a, base)
      elseif core.kind(a) ~= "model" then
        error(("%s: adapter %d is a %s; expected a folder, or a model as model.lora gives it"):format(what, k,
          core.kind(a)), 0)
      elseif table.concat(a:names(), "\n"):find("lora_A", 1, true) then
        vectors[k], factors[#factors + 1] = model.lora(a, base), a
      elseif a:mass() ~= 0 then
        error(("%s: adapter %d is no vector (its mass is %g); give adapters, or differences from the base"):format(what,
          k, a:mass()), 0)
      else
        vectors[k] = a
      end
    end
    return vectors, #factors == #list and factors or nil
  end

  local function weighted(list, w)
    local sum
    for k, a in ipairs(list) do sum = sum and sum + w[k] * a or w[k] * a end
    return sum
  end

  -- A = sum w A_k and B = sum w B_k: factors at hand are added as they are, planned ones by model.lora_sum.
  local function sum_of_factors(vectors, factors, w, base)
    if factors then return model.lora(weighted(factors, w), base) end
    local sum = { weight = w, mode = "factors" }
    for k, a in ipairs(vectors) do sum[k] = a end
    return model.lora(model.lora_sum(sum), base)
  end

  local function lorahub(base, list, loss, o)
    local what = "search.lorahub"
    o = o or {}
    check(what, o, { "mode", "low", "high", "l1", "evals", "sigma", "popsize", "seed" })
    local adapters, factors = adapters_of(what, list, base)
    local mode = o.mode or "factors"
    called(what, loss, "the loss")
    if mode ~= "factors" and mode ~= "product" then
      error(what .. ": mode is \"factors\" or \"product\", got " .. tostring(mode), 0)
    end
    local l1 = option(what, o, "l1", 0.05, number, "a number")
    local function merged(w)
      return base + (mode == "factors" and sum_of_factors(adapters, factors, w, base) or weighted(adapters, w))
    end
    local function value(w)
      local v, size = loss(merged(w):load()), 0
      if type(v) ~= "number" then error(what .. ": the loss is a " .. core.kind(v) .. ", not a number", 0) end
      for _, x in ipairs(w) do size = size + math.abs(x) end
      return v + l1 * size / #w
    end
    local zero = {}
    for k = 1, #adapters do zero[k] = 0.0 end
    local info = { start = value(zero) }
    local es = search.cmaes { start = zero, sigma = option(what, o, "sigma", 0.5, above_zero, "a number above 0"),
      low = option(what, o, "low", -1.5, number, "a number"), high = option(what, o, "high", 1.5, number, "a number"),
      seed = o.seed or 0, popsize = o.popsize, evals = option(what, o, "evals", 40, count, "a whole number") }
    local w, best, reason = es:minimise(value)
    if best == nil or best >= info.start then w, best = zero, info.start end
    info.weights, info.value, info.evaluations, info.reason = w, best, es.evaluations + 1, reason
    return merged(w), info
  end

  define("search.lorahub", "search.lorahub(base, {adapter, …}, loss, {mode = \"factors\", low = -1.5, high = 1.5, l1 = "
    .. "0.05, evals = 40, sigma = 0.5, popsize =, seed = 0}) -> theta, info",
    "LoRAHub (Huang et al. 2023, arXiv:2307.13269): weights w of adapters that minimise a loss on a few examples "
    .. "plus l1 times the mean of |w|, without gradients, from w = 0 (the base) and within bounds. mode = "
    .. "\"factors\" adds the factors, A = sum w A_k and B = sum w B_k, as the paper does (their product has cross "
    .. "terms; ranks and scales must be equal); \"product\" adds the changes, sum w B_k A_k, and takes any "
    .. "differences from the base. The search is CMA-ES. info has weights, value (of the best, with the penalty), "
    .. "start (the value of the base), evaluations and reason.\n"
    .. "  adapters: folders as PEFT writes them, what merge.lora_extract gives, or model.lora(…)\n"
    .. "  loss: a function of a model, less is better, as net:loss(examples)",
    [[
local base = model.load "examples/data/base.safetensors"
local adapters = {}
for k, name in ipairs { "low", "high" } do
  local tuned = model.load("examples/data/" .. name .. ".safetensors")
  adapters[k] = merge.lora_extract { base = base, tuned, rank = 4, rest = "drop" }
end
local loss = nn.mlp({ 64, 128, 64, 10 }):loss(data.digits().train:take(100))
local theta, info = search.lorahub(base, adapters, loss, { seed = 1 })
print(#info.weights, info.value <= info.start)
-- > 2	true]], lorahub)

  -- ---- evolution of a merge's parameters ----

  -- space -> coordinates { {key, index or nil, low, high, start}, … }
  local function coordinates(what, space)
    if type(space) ~= "table" then error(what .. ": expected { name = {low, high}, … }", 0) end
    local names, list = {}, {}
    for key in pairs(space) do
      if type(key) ~= "string" then error(what .. ": the parameters have names: { density = {0.1, 1} }", 0) end
      names[#names + 1] = key
    end
    table.sort(names)
    local function add(key, index, r)
      if type(r) ~= "table" or not number(r[1]) or not number(r[2]) or r[1] >= r[2] then
        error(("%s: %s is {low, high, start =} or a list of such"):format(what, key), 0)
      end
      check(what .. ": " .. key, r, { "start" }, true)
      local start = r.start or (r[1] + r[2]) / 2
      if start < r[1] or start > r[2] then error(("%s: start of %s is outside of its range"):format(what, key), 0) end
      local width = r[2] - r[1]
      list[#list + 1] = { key = key, index = index, low = r[1], width = width, start = (start - r[1]) / width }
    end
    for _, key in ipairs(names) do
      local r = space[key]
      if type(r) == "table" and type(r[1]) == "table" then
        for i, one in ipairs(r) do add(key, i, one) end
      else
        add(key, nil, r)
      end
    end
    if #list == 0 then error(what .. ": there is no parameter", 0) end
    return list
  end

  local function evolve(build, loss, space, o)
    local what = "search.evolve"
    o = o or {}
    check(what, o, { "evals", "sigma", "popsize", "seed", "journal" })
    called(what, build, "what makes the model")
    called(what, loss, "the loss")
    local list, start = coordinates(what, space), {}
    for i, c in ipairs(list) do start[i] = c.start end
    local function point(u)
      local p = {}
      for i, c in ipairs(list) do
        local v = c.low + c.width * u[i]
        if c.index then
          p[c.key] = p[c.key] or {}
          p[c.key][c.index] = v
        else
          p[c.key] = v
        end
      end
      return p
    end
    local function value(u)
      local v = loss(build(point(u)))
      if type(v) ~= "number" then error(what .. ": the loss is a " .. core.kind(v) .. ", not a number", 0) end
      return v
    end
    local info = { start = value(start) }
    local es = search.cmaes { start = start, sigma = option(what, o, "sigma", 0.3, above_zero, "a number above 0"),
      low = 0, high = 1, seed = o.seed or 0, popsize = o.popsize,
      evals = option(what, o, "evals", 100, count, "a whole number") }
    if o.journal then es:journal(o.journal) end
    local u, best, reason = es:minimise(value)
    if best == nil or best >= info.start then u, best = start, info.start end
    info.parameters, info.value, info.evaluations, info.reason = point(u), best, es.evaluations + 1, reason
    return build(info.parameters), info
  end

  define("search.evolve", "search.evolve(build, loss, {name = {low, high, start =}, …}, {evals = 100, sigma = 0.3, "
    .. "popsize =, seed = 0, journal =}) -> theta, info",
    "Evolutionary merging in parameter space (Akiba et al. 2024, arXiv:2403.13187): the parameters of a merge that "
    .. "minimise a loss of the merged model, by CMA-ES. build(p) makes the model from parameters by name; a "
    .. "parameter is {low, high}, or a list of such for one number per model or layer. The search begins at start "
    .. "(the middle where not given), whose value counts too. info has parameters, value, start, evaluations and "
    .. "reason.\n"
    .. "  loss: a function of a model, less is better\n"
    .. "  sigma: the first steps, as a share of the ranges\n"
    .. "  journal: a file that keeps what was computed, as in cmaes:journal",
    [[
local base, low, high = tensor { 0, 0 }, tensor { 1, 0 }, tensor { 0, 2 }
local function m(t) return model.new { { "w", t } } end
local theta, info = search.evolve(function(p) return m(base + p.weight[1] * low + p.weight[2] * high) end,
  function(x) return (x["w"] - tensor { 0.5, 0.5 }):norm() end, { weight = { { 0, 1 }, { 0, 1 } } },
  { evals = 200, seed = 1 })
print(("%.2f %.2f"):format(table.unpack(info.parameters.weight)))
-- > 0.50 0.25]], evolve)
end
