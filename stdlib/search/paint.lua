-- SPDX-License-Identifier: Apache-2.0
-- Patching by interpolation (Ilharco et al. 2022, arXiv:2208.05592): how far to go from a model towards one that
-- was tuned on a new task, so that the new is learned and the old is kept.
return function(define, check, core)
  local what = "search.paint"
  local expect = require "expect"(core.kind)

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local function list_of(scores, field)
    local v = scores[field]
    if expect.fits(v, "a function") then v = { v } end
    if core.kind(v) ~= "table" or #v == 0 then fail("scores.%s is a function of a model, or a list of such", field) end
    for _, f in ipairs(v) do
      if not expect.fits(f, "a function") then fail("scores.%s holds a %s, not a function", field, core.kind(f)) end
    end
    return v
  end

  local function mean(m, list, count)
    local sum = 0
    for k = 1, count do
      local v = list[k](m)
      if type(v) ~= "number" then fail("a score is a %s, not a number", core.kind(v)) end
      sum = sum + v
    end
    return sum / count
  end

  -- The best of the line from base towards tuned: alpha, value, model. The smallest of equal ones.
  local function best_on_line(at, alphas, value)
    local best
    for _, alpha in ipairs(alphas) do
      local m = at(alpha)
      local v = value(m)
      if not best or v > best.value then best = { alpha = alpha, value = v, model = m } end
    end
    return best
  end

  local function towards(base, tuned, alpha)
    if alpha == 0 then return base elseif alpha == 1 then return tuned end
    return (1 - alpha) * base + alpha * tuned
  end

  -- Patch after patch: what was patched is the base of the next.
  local function sequential(base, patches, supported, patching, alphas)
    local now, info = base, { alphas = {} }
    for k, patch in ipairs(patches) do
      local from = now
      local tuned = type(patch) == "function" and patch(from) or patch
      if core.kind(tuned) ~= "model" then fail("patch %d gave a %s, not a model", k, core.kind(tuned)) end
      local best = best_on_line(function(a) return towards(from, tuned, a) end, alphas, function(m)
        return (mean(m, supported, #supported) + mean(m, patching, k)) / 2
      end)
      now, info.alphas[k], info.score = best.model, best.alpha, best.value
    end
    return now, info
  end

  -- All patches from the one base: base + sum_k alpha_k tau_k, with one alpha for all or one for each.
  local function parallel(base, patches, value, alphas, o)
    local function at(list)
      local sum = base
      for k, m in ipairs(patches) do
        if list[k] ~= 0 then sum = sum + list[k] * (m - base) end
      end
      return sum
    end
    local function same(a)
      local list = {}
      for k = 1, #patches do list[k] = a end
      return list
    end
    local best = best_on_line(function(a)
      return #patches == 1 and towards(base, patches[1], a) or at(same(a))
    end, alphas, value)
    local info = { alphas = same(best.alpha), score = best.value }
    if not o.each or #patches == 1 then return best.model, info end
    local es = search.cmaes { start = same(math.max(0, math.min(best.alpha, 1))), sigma = 0.2, low = 0, high = 1,
      seed = o.seed or 0, evals = o.evals or 50 }
    local list, least = es:minimise(function(w) return -value(at(w)) end)
    if list and -least > best.value then return at(list), { alphas = list, score = -least } end
    return best.model, info
  end

  define(what, "search.paint(base, {patch, …}, {supported = f, patching = {g, …}}, {mode = \"parallel\", alphas = {0, "
    .. "0.05, …, 1}, each = false, evals = 50, seed = 0}) -> model, info",
    "PAINT (Ilharco et al. 2022, arXiv:2208.05592): patching a model by interpolation. Alpha is chosen on held-out "
    .. "data: what is largest is the mean of two means, of the scores on supported tasks and of those on patching "
    .. "tasks. One patch (tuned on one task, or on all patching tasks jointly): (1 - alpha) base + alpha patch. "
    .. "Several: mode = \"parallel\" adds alpha (patch - base) of each; \"sequential\" applies one after the other, "
    .. "where the next is tuned from what the last one left: a patch may be a function of that model that gives the "
    .. "tuned one. info has alphas and score. search.wise_ft shows the whole curve.\n"
    .. "  supported, patching: functions of a model, or lists; more is better; sequential takes the k-th of patching "
    .. "from the k-th patch on\n"
    .. "  each: an alpha for each parallel patch, by CMA-ES of `evals` evaluations from the best common one",
    [[
local net, d, models = nn.mlp { 64, 128, 64, 10 }, data.digits().test, {}
for k, name in ipairs { "low", "high" } do models[k] = model.load("examples/data/" .. name .. ".safetensors") end
local old = eval.accuracy(net, d:classes_only { 0, 1, 2, 3, 4 })
local new = eval.accuracy(net, d:classes_only { 5, 6, 7, 8, 9 })
local m, info = search.paint(models[1], { models[2] }, { supported = old, patching = new }, { alphas = { 0, 0.5, 1 } })
print(info.alphas[1], info.score > (old(models[1]) + new(models[1])) / 2)
-- > 0.5	true]],
    function(base, patches, scores, o)
      o = o or {}
      check(what, o, { "mode", "alphas", "each", "evals", "seed" })
      if core.kind(base) ~= "model" then fail("expected a model, got %s", core.kind(base)) end
      if core.kind(patches) ~= "table" or #patches == 0 then fail "expected a list of patches" end
      if type(scores) ~= "table" then fail "expected scores: { supported = f, patching = g }" end
      check(what .. ": scores", scores, { "supported", "patching" })
      local supported, patching = list_of(scores, "supported"), list_of(scores, "patching")
      local alphas, mode = o.alphas, o.mode or "parallel"
      if not alphas then
        alphas = {}
        for i = 0, 20 do alphas[i + 1] = i / 20 end
      end
      expect.one(what, "alphas", alphas, "a list of numbers")
      for k, m in ipairs(patches) do
        if core.kind(m) ~= "model" and not (mode == "sequential" and type(m) == "function") then
          fail("patch %d is a %s, not a model", k, core.kind(m))
        end
      end
      if mode == "sequential" then
        if #patching ~= #patches then fail "sequential: patching needs a score for each patch" end
        return sequential(base, patches, supported, patching, alphas)
      elseif mode ~= "parallel" then
        fail("mode is \"parallel\" or \"sequential\", got %s", tostring(mode))
      end
      return parallel(base, patches, function(m)
        return (mean(m, supported, #supported) + mean(m, patching, #patching)) / 2
      end, alphas, o)
    end)
end
