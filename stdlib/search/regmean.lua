-- SPDX-License-Identifier: Apache-2.0
-- RegMean++: RegMean layer by layer, where the inputs that a layer is fitted on have come through the layers that are
-- merged already, since these are what it will see.
return function(define, check, core)
  local net_of = require "nn.net"
  local what = "search.regmean_plus"

  local function opened(m, k)
    if core.kind(m) ~= "model" then
      error(("%s: model %d is a %s; expected a model"):format(what, k, core.kind(m)), 3)
    end
    m = m:load()
    local all = {}
    for _, name in ipairs(m:names()) do all[name] = m:tensor(name) end
    return all
  end

  -- The tensors of a layer as a model.
  local function part_of(all, names)
    local list = {}
    for i, name in ipairs(names) do list[i] = { name, all[name] } end
    return model.new(list)
  end

  local function merged_layer(net, own, data, names, merged, o)
    local chosen, parts, grams = {}, {}, {}
    for _, name in ipairs(names) do chosen[name] = true end
    for k, all in ipairs(own) do
      local theta = {}
      for name, t in pairs(all) do theta[name] = merged[name] or t end
      local ok, g = pcall(probe.gram, net, theta, data[k], { only = function(name) return chosen[name] end,
        batch = o.batch })
      if not ok and not tostring(g):find "no linear map" then error(g, 0) end
      parts[k], grams[k] = part_of(all, names), ok and model.new(g, { mass = 0 }) or nil
    end
    parts.weight = o.weight
    if #grams < #parts then return merge.linear(parts) end
    parts.gram, parts.alpha, parts.ridge = grams, o.alpha or 0.95, o.ridge
    return merge.regmean(parts)
  end

  local function regmean_plus(net, models, data, o)
    check(what, o, { "alpha", "weight", "ridge", "batch" })
    if not net_of.is(net) then error(("%s: expected a network, got %s"):format(what, core.kind(net)), 2) end
    if core.kind(models) ~= "table" or core.kind(data) ~= "table" or #models < 1 or #models ~= #data then
      error(what .. ": expected a list of models and a list of as many data sets", 2)
    end
    local own, merged = {}, {}
    for k, m in ipairs(models) do own[k] = opened(m, k) end
    for _, group in ipairs(net_of.structure(net).groups) do
      local m = merged_layer(net, own, data, group.names, merged, o or {}):load()
      for _, name in ipairs(group.names) do merged[name] = m:tensor(name) end
    end
    return core.with_values(models[1]:load(), merged)
  end

  define("search.regmean_plus", "search.regmean_plus(net, {a, b, …}, {data of a, of b, …}, {alpha = 0.95, weight =, "
    .. "ridge = 0, batch = 256}) -> model",
    "RegMean++: merge.regmean layer by layer. The Gram matrices of a layer are taken from each model's data after they "
    .. "went through the layers below as they are merged already; within the layer they go through the model's own. "
    .. "Layers are those of net:layers(). For networks of one layer it is RegMean. Labels are not needed. alpha, "
    .. "weight, ridge: as in merge.regmean (alpha is 0.95 here: as the authors' row in fusion_bench has it, "
    .. "with 256 examples of each task); batch: as in probe.gram. Nguyen et al. 2025, arXiv:2508.03121.",
    "local net = nn.mlp { 2, 3, 2 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local da, db = { x = tensor { {1, 2}, {3, 1}, {0, 1} } }, { x = tensor { {2, 2}, {1, 5}, {4, 1} } }\n"
    .. "print(search.regmean_plus(net, { a, b }, { da, db }):mass())\n-- > 1.0", regmean_plus)
end
