-- SPDX-License-Identifier: Apache-2.0
-- "Why is my merge garbage?": reads a report (merge.report) for signs of trouble and says of each what
-- it usually means. Every sign is a row below: when it shows, how grave it is (1: surely part of the
-- trouble), and the sentence. The thresholds are rules of thumb; the numbers stand beside them.

local function percent(x) return string.format("%.0f %%", 100 * x) end

-- The extreme of a field over the models (those that among(m) says): value, label.
local function extreme(r, field, better, among)
  local best, whose
  for _, m in ipairs(r.models) do
    local v = m[field]
    if v ~= nil and (best == nil or better(v, best)) and (not among or among(m)) then best, whose = v, m.model end
  end
  return best, whose
end
local function more(a, b) return a > b end
local function less(a, b) return a < b end

-- The pair of models whose offsets have the smallest cosine.
local function least_cosine(r)
  local c, a, b
  for k = 1, #r.models do
    for l = k + 1, #r.models do
      local v = r.cosines[k][l]
      if v and (not c or v < c) then c, a, b = v, r.models[k].model, r.models[l].model end
    end
  end
  return c, a, b
end

-- Each sign: a name, what it usually means, and f(record) -> grave, what was seen; nil where it does
-- not show. Of equally grave ones the first in this order counts.
local signs = {}
local function sign(name, meaning, f)
  signs[#signs + 1] = { name = name, meaning = meaning, look = f }
end

sign("not finite",
  "The result holds NaN or infinities: an input holds them, or values overflowed the dtype of the output.",
  function(r)
    if r.norm ~= r.norm or r.norm == math.huge then return 10, "norm " .. tostring(r.norm) end
  end)

sign("far from base",
  "A fine-tuned model stays near its base. This one has another origin, another order of its units, or this is the "
    .. "wrong base; averaging or adding changes means nothing then.",
  function(r)
    local norm, whose = extreme(r, "norm", more)
    if r.base and r.base_norm > 0 and norm > 0.7 * r.base_norm then
      local far = math.min(1, norm / r.base_norm)
      return r.numel < 4096 and far or 4 + far, -- a bias has little of a base to stay near
        ("%s is %.2f times the base's norm away"):format(whose, norm / r.base_norm)
    end
  end)

sign("overcounted",
  "The models went partly the same way, and the merge adds what they share once per model: lower lambda or the "
    .. "weights, or average (normalize) instead of adding.",
  function(r)
    local most = extreme(r, "norm", more)
    -- a small change may well be held many times over by a large one
    local share, whose = extreme(r, "share", more, function(m) return m.norm > 0.3 * most end)
    if share and share > 1.25 then
      return math.min(3, share - 0.75), ("holds %.2f times the change of %s"):format(share, whose)
    end
  end)

sign("grown",
  "The weights are larger than those of the models: changes were added at too large weights, or rescaling after "
    .. "dropping made up for too much.",
  function(r)
    local grown = r.norm / math.max(extreme(r, "size", more), r.base_norm or 0)
    if grown > 1.1 and grown < math.huge then
      return math.min(3, 5 * (grown - 1)), ("norm %.2f times the largest one's"):format(grown)
    end
  end)

sign("shrunk",
  "Averaging weights that point in different directions makes them smaller, and with them the variance of every "
    .. "activation: align the models first, or use a method that keeps the norm (slerp, karcher).",
  function(r)
    local least = math.min(r.ratio and r.norm / r.ratio or 0, r.base_norm or math.huge)
    if r.norm < 0.9 * least then
      return math.min(3, 5 * (1 - r.norm / least)), ("norm %.2f times the models' mean"):format(r.norm / least)
    end
  end)

sign("against a model",
  "The merge moved away from this model instead of towards it: a negative weight, or the others outvote it.",
  function(r)
    local share, whose = extreme(r, "share", less)
    if share and share < -0.1 then
      return math.min(2, 0.5 - share), ("holds %.2f times the change of %s"):format(share, whose)
    end
  end)

sign("lost to rounding",
  "The merge's steps are smaller than half a step of the output's dtype around the base, so they vanish: save in a "
    .. "wider dtype, or take larger steps.",
  function(r)
    local lost = r.rounding and r.rounding.lost
    if lost and lost > 0.1 then return 2 * lost, percent(lost) .. " of the changes" end
  end)

sign("faint",
  "Little is left of what the models learnt: density, weights or lambda are small, or their changes cancel.",
  function(r)
    local energy = r.energy and r.energy * #r.models -- a mean of n unrelated changes keeps 1/n
    if energy and energy < 0.5 and r.moved > 0 then
      return 1.2 * (1 - energy), percent(r.energy) .. " of the energy of a model's change"
    end
  end)

sign("untouched",
  "The models differ here and the result is the base all the same: a weight or density of 0, a mask, or a rule that "
    .. "leaves this tensor out.",
  function(r)
    if r.changed == 0 and r.moved > 0 and not (r.rounding and r.rounding.lost and r.rounding.lost > 0) then
      return 1.5, percent(r.moved) .. " of the entries were moved by some model"
    end
  end)

sign("one model alone",
  "The result is one of the models, unchanged, though others were given: weights of 0, or t at an end.",
  function(r)
    local same, others
    for _, m in ipairs(r.models) do
      if m.same then same = m.model elseif m.norm > 0 then others = true end
    end
    if same and others then return 0.8, "it is " .. same end
  end)

sign("opposed",
  "These two were trained in opposite directions here: whichever wins, the other loses. Leave this tensor to one of "
    .. "them, or lower its weight.",
  function(r)
    local c, a, b = least_cosine(r)
    if r.base and c and c < -0.1 then return 0.5 - c, ("cosine %.2f of %s to %s"):format(c, a, b) end
  end)

sign("sign conflict",
  "More entries are pulled both ways than chance would give, so that averaging cancels: methods that elect signs "
    .. "(ties, dare_ties) or keep fewer entries help.",
  function(r)
    local chance = 1 - 2 ^ (1 - #r.models)
    if r.conflict and #r.models > 1 and r.conflict > chance + 0.05 then
      return 0.4 + 2 * (r.conflict - chance), ("%s of the moved entries, by chance %s"):format(percent(r.conflict),
        percent(chance))
    end
  end)

sign("shared directions",
  "Directions that lead in several models add up in the merge, though each model has them once: methods that keep "
    .. "them apart (tsv, iso_c) or lower weights help.",
  function(r)
    local s = r.spectrum
    if s and s.held and s.held > 1.25 then
      return math.min(2, s.held - 0.75), ("holds what %.0f %% of the leading directions share %.2f times"):format(
        100 * math.min(1, s.shared), s.held)
    end
  end)

sign("few directions",
  "The change uses far fewer directions than those of the models: it was cut to low rank, or one direction drowns "
    .. "the others.",
  function(r)
    local s, least = r.spectrum, math.huge
    for _, rank in ipairs(s and s.ranks or {}) do least = math.min(least, rank) end
    if s and s.rank > 0 and s.rank < 0.5 * least and least < math.huge then
      return 0.9 - s.rank / least, ("effective rank %.1f, the models' at least %.1f"):format(s.rank, least)
    end
  end)

sign("lopsided",
  "One model changed far more than another and decides the result, whatever the weights say: weigh by the norms, or "
    .. "use a method that normalises them.",
  function(r)
    local most, whose = extreme(r, "norm", more)
    local least, other = extreme(r, "norm", less)
    if r.base and least > 0 and most > 10 * least then
      return 0.3 + 0.1 * math.log(most / least), ("%s moved %.0f times as far as %s"):format(whose, most / least, other)
    end
  end)

local doctor = {}

-- Which tensor of which input each operand of tensor t is: {result =, base =, 1 =, …} and the models;
-- nil where an operand is no input, or two inputs have one label.
local function inputs_of(t, p, by_label)
  local name, models = { result = t.name }, {}
  local from = {}
  for _, f in ipairs(p.from) do
    local label, its = f:match "^(.-): (.*)$"
    if from[label] then return nil end
    from[label] = its
  end
  local function find(label) return from[label] and by_label[label] or nil end
  name.base = from[t.base]
  for k, m in ipairs(t.models) do
    name[k], models[k] = from[m.model], find(m.model)
    if not models[k] then return nil end
  end
  return name, find(t.base), models
end

-- Adds `spectrum` (see doctor/spectrum.lua) to at most `most` of the matrices that were merged from inputs with
-- a base, evenly spread over the model. plan: that of the merge; stored: its result.
function doctor.add_spectra(report, plan, stored, most)
  local spectrum, by_label, fit = require "doctor.spectrum", {}, {}
  for _, input in ipairs(plan.inputs) do
    by_label[input.label] = input.path and not by_label[input.label] and model.open(input.path, { label = input.label })
      or nil
  end
  for i, t in ipairs(report.tensors) do
    local shape = plan.tensors[i].shape
    if t.base and t.change > 0 and t.change < math.huge and #shape == 2 and math.min(shape[1], shape[2]) >= 16 then
      local name, base, models = inputs_of(t, plan.tensors[i], by_label)
      if name and base then fit[#fit + 1] = { t, name, base, models } end
    end
  end
  local count = math.min(most, #fit)
  for k = 1, count do
    local t, name, base, models = table.unpack(fit[count == 1 and 1 or 1 + (k - 1) * (#fit - 1) // (count - 1)], 1, 4)
    t.spectrum = spectrum.of(stored, base, models, name)
  end
end

-- What shows in one record, the gravest first.
local function look(r)
  local found = {}
  for order, s in ipairs(r.models and signs or {}) do
    local grave, seen = s.look(r)
    if grave then
      found[#found + 1] = { sign = s.name, grave = grave, seen = seen, meaning = s.meaning, order = order }
    end
  end
  table.sort(found, function(x, y)
    if x.grave ~= y.grave then return x.grave > y.grave end
    return x.order < y.order
  end)
  return found
end

-- diagnose(report) -> list of {tensor, signs = {{sign, grave, seen, meaning}, …}}, the worst first:
-- tensors by their gravest sign; those without any are left out.
function doctor.diagnose(report)
  local out = {}
  for at, t in ipairs(report.tensors) do
    local found = look(t)
    if #found > 0 then out[#out + 1] = { tensor = t.name, signs = found, at = at } end
  end
  table.sort(out, function(x, y)
    local p, q = x.signs[1], y.signs[1]
    if p.grave ~= q.grave then return p.grave > q.grave end
    return x.at < y.at
  end)
  return out
end

return doctor
