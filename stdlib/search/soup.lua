-- SPDX-License-Identifier: Apache-2.0
-- Which models go into a mean: by a score on held-out data, one after the other (Wortsman et al. 2022,
-- arXiv:2203.05482; Rame et al. 2022, arXiv:2205.09739).
return function(define, check, core)
  local expect = require "expect"(core.kind)

  local function models_of(what, list)
    if core.kind(list) ~= "table" or #list == 0 then
      error(what .. ": expected a list of models, got " .. core.kind(list), 0)
    end
    for k, m in ipairs(list) do
      if core.kind(m) ~= "model" then error(("%s: item %d is no model but a %s"):format(what, k, core.kind(m)), 0) end
    end
  end

  -- score(m) as a number of which more is better; NaN is the worst.
  local function scorer(what, score, less)
    if not expect.fits(score, "a function") then
      error(what .. ": expected a function of a model that gives its score, got " .. core.kind(score), 0)
    end
    return function(m)
      local v = score(m)
      if type(v) ~= "number" then error(what .. ": the score is a " .. core.kind(v) .. ", not a number", 0) end
      if v ~= v then return -math.huge, v end
      return less and -v or v, v
    end
  end

  -- The greedy walk: best model first, each next one is kept where the mean with it scores no less (strict:
  -- more) than the mean without.
  local function greedy(what, score, list, o)
    models_of(what, list)
    local rate = scorer(what, score, o.less)
    local good, info = {}, { scores = {}, order = {}, kept = {}, trials = {} }
    for k, m in ipairs(list) do
      good[k], info.scores[k] = rate(m)
      info.order[k] = k
    end
    table.sort(info.order, function(x, y) return good[x] > good[y] or good[x] == good[y] and x < y end)
    local first = info.order[1]
    local soup, chosen, best = list[first], { list[first] }, good[first]
    info.kept[1], info.score = first, info.scores[first]
    for i = 2, #list do
      local k = info.order[i]
      local try = { table.unpack(chosen) }
      try[#try + 1] = list[k]
      local mean = merge.linear(try)
      local value, shown = rate(mean)
      local keep = value > best or not o.strict and value == best
      info.trials[#info.trials + 1] = { model = k, score = shown, kept = keep }
      if keep then
        soup, chosen, best = mean, try, value
        info.kept[#info.kept + 1], info.score = k, shown
      end
    end
    return soup, info
  end

  define("search.greedy_soup", "search.greedy_soup(score, {a, b, …}, {less = false, strict = false}) -> model, info",
    "A greedy soup (Wortsman et al. 2022, arXiv:2203.05482): models in order of their score on held-out data, the best "
    .. "first; each is kept if the mean with it scores at least as well as the mean without it. So the soup is never "
    .. "worse than the best model, by that score. The uniform soup is merge.linear of all. info has kept (the "
    .. "numbers of the models in the soup), scores (of each), order, score (of the soup) and trials {model =, score "
    .. "=, kept =}. The soup is a merge.linear: of files it is a plan and m:save writes it with where it came from. "
    .. "Networks with batch norms are scored after eval.bn_reset: score = function(m) return "
    .. "accuracy(eval.bn_reset(net, m, d)) end.\n"
    .. "  score: a function of a model, as eval.accuracy(net, data) makes; more is better\n"
    .. "  less: less is better, as for a loss\n"
    .. "  strict: a model must improve the score",
    [[
local models, d = {}, data.digits()
for k, name in ipairs { "low", "base", "high" } do
  models[k] = model.load("examples/data/" .. name .. ".safetensors")
end
local soup, info = search.greedy_soup(eval.accuracy(nn.mlp { 64, 128, 64, 10 }, d.test), models)
print(info.order[1], info.score >= info.scores[2])
-- > 2	true]],
    function(score, list, o)
      check("search.greedy_soup", o, { "less", "strict" })
      return greedy("search.greedy_soup", score, list, o or {})
    end)

  -- ---- diversity ----

  -- For each model which class it says, and whether that is right, over all examples.
  local function answers(net, d, list)
    local loss = require "nn.loss"
    local run = compile(function(theta, x) return (net(theta, x, { mode = "eval" })):argmax(-1) end)
    local leaves = require "train.leaves"(core)
    local said, right = {}, {}
    local count, chunk = loss.chunks_of(d, 1000)
    for i, m in ipairs(list) do
      local theta, a, b = leaves.flatten(m, "search.diwa"), {}, {}
      for k = 1, count do
        local batch = chunk(k)
        if batch.y == nil then error("search.diwa: the data have no labels", 0) end
        a[k] = run(theta, batch.x)
        b[k] = a[k]:eq(batch.y + 1)
      end
      said[i], right[i] = tensor.cat(a, 1), tensor.cat(b, 1):to "f64"
    end
    return said, right
  end

  local function diversity(net, d, list)
    local said, right = answers(net, d, list)
    local n = said[1]:numel()
    local disagreement, ratio, distance = {}, {}, {}
    local loaded = {}
    for i, m in ipairs(list) do
      loaded[i], disagreement[i], ratio[i], distance[i] = m:load(), {}, {}, {}
    end
    for i = 1, #list do
      disagreement[i][i], ratio[i][i], distance[i][i] = 0.0, 0.0, 0.0
      for j = 1, i - 1 do
        local both_wrong = ((1 - right[i]) * (1 - right[j])):sum()
        local one_wrong = (right[i] - right[j]):abs():sum()
        disagreement[i][j] = tensor.ne(said[i], said[j]):sum() / n
        ratio[i][j] = one_wrong == 0 and 0.0 or one_wrong / both_wrong
        distance[i][j] = (loaded[i] - loaded[j]):norm()
        for _, t in ipairs { disagreement, ratio, distance } do t[j][i] = t[i][j] end
      end
    end
    local f64 = { dtype = "f64" }
    return { disagreement = tensor(disagreement, f64), ratio_error = tensor(ratio, f64),
      distance = tensor(distance, f64) }
  end

  define("search.diwa", "search.diwa(net, data, {a, b, …}, {select = \"restricted\", score =}) -> model, info",
    "DiWA, diverse weight averaging (Rame et al. 2022, arXiv:2205.09739), of many runs from one start: the error of a "
    .. "mean falls with the diversity of what is averaged and grows with the distance. select = \"restricted\": models "
    .. "ranked by their score on validation data, each added if the mean scores no less with it, as in the official "
    .. "script (alexrame/diwa): a greedy soup; \"all\": the mean of all, what the script calls uniform. info has "
    .. "what search.greedy_soup says (kept, scores, score, …) and for each pair of models, as f64 tensors [n, n]: "
    .. "disagreement (the share of examples with different predictions), ratio_error (examples that exactly one gets "
    .. "wrong over those that both get wrong; infinite where no error is shared) and distance (the norm of the "
    .. "difference).\n"
    .. "  score: a function of a model, more is better; the accuracy on data where not given",
    [[
local net, d, models = nn.mlp { 2, 16, 2 }, data.two_moons { n = 200, seed = 1 }, {}
local start = train.fit(net, d, { epochs = 2, lr = 0.01 })
for k = 1, 3 do models[k] = train.fit(net, d, { start = start, epochs = k, lr = 0.01 * k, seed = k }) end
local m, info = search.diwa(net, d, models)
print(info.disagreement.shape, info.score >= math.max(table.unpack(info.scores)))
-- > [3, 3]	true]],
    function(net, d, list, o)
      local what = "search.diwa"
      check(what, o, { "select", "score" })
      o = o or {}
      models_of(what, list)
      local score, choice = o.score or eval.accuracy(net, d), o.select or "restricted"
      local m, info
      if choice == "restricted" then
        m, info = greedy(what, score, list, {})
      elseif choice == "all" then
        local rate = scorer(what, score)
        m, info = merge.linear(list), { kept = {}, scores = {} }
        for k, x in ipairs(list) do
          info.kept[k], info.scores[k] = k, select(2, rate(x))
        end
        info.score = select(2, rate(m))
      else
        error(what .. ": select is \"restricted\" or \"all\", got " .. tostring(choice), 0)
      end
      for key, t in pairs(diversity(net, d, list)) do info[key] = t end
      return m, info
    end)
end
