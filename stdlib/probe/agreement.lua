-- SPDX-License-Identifier: Apache-2.0
-- How alike two functions are: what they predict on the same data. Sums over chunks of logits, in f64.
return function(define, check, core)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local record = require "probe.record"
  local grid = require "probe.grid"
  local over = require "probe.over"(core)
  local what = "probe.agreement"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- ---- sums ----

  -- What is needed of one model's logits [n, c]: probabilities, their logarithms, the class, whether it is right.
  local function seen(z, y)
    z = z:to "f64"
    local shape = z.shape
    local c = shape[#shape]
    z = z:reshape { z:numel() // c, c }
    local s = { z = z, log = z:log_softmax(-1), best = z:argmax(-1), size = (z * z):sum(2):sqrt() }
    s.p = s.log:exp()
    s.right = y and s.best:eq(y:flatten() + 1):to "f64"
    return s
  end

  local function new_sums() return { disagree = 0, js = 0, ab = 0, ba = 0, cosine = 0, same = 0 } end

  local function add(sums, a, b)
    sums.disagree = sums.disagree + a.best:ne(b.best):sum()
    local middle = ((a.p + b.p) / 2):clamp(1e-300):log()
    sums.js = sums.js + 0.5 * ((a.p * (a.log - middle)):sum() + (b.p * (b.log - middle)):sum())
    local apart = a.log - b.log
    sums.ab, sums.ba = sums.ab + (a.p * apart):sum(), sums.ba - (b.p * apart):sum()
    sums.cosine = sums.cosine + ((a.z * b.z):sum(2) / (a.size:clamp(1e-8) * b.size:clamp(1e-8))):sum()
    if a.right then sums.same = sums.same + a.right:eq(b.right):sum() end
  end

  -- What follows of the sums over n rows of c classes, with the accuracies of both.
  local function finished(s, n, c, accuracy_a, accuracy_b)
    local d = s.disagree / n
    local r = { disagreement = d, js = s.js / n, kl_ab = s.ab / n, kl_ba = s.ba / n, logit_cosine = s.cosine / n,
      n = n }
    if not accuracy_a then return r end
    local a, b = accuracy_a, accuracy_b
    local both = a * b + (1 - a) * (1 - b)
    r.accuracy_a, r.accuracy_b = a, b
    r.normalised_a, r.normalised_b = d / (1 - a), d / (1 - b)
    -- Of two that err independently, each wrong class being as likely as another.
    r.chance = c > 1 and 1 - (a * b + (1 - a) * (1 - b) / (c - 1)) or nil
    r.kappa = (s.same / n - both) / (1 - both)
    return r
  end

  local new_pair = record.kind("agreement", {
    text = function(r)
      local out = { ("disagreement %.4f"):format(r.disagreement) }
      if r.kappa then
        out[2] = ("%.3f of the errors of a, %.3f of b; by chance %.4f), kappa of errors %.3f"):format(r.normalised_a,
          r.normalised_b, r.chance or 0, r.kappa)
        out[1] = out[1] .. " (" .. table.remove(out, 2)
      end
      out[#out + 1] = ("JS %.4g, KL %.4g and %.4g nats"):format(r.js, r.kl_ab, r.kl_ba)
      return table.concat(out, "; ") .. ("; %d rows"):format(r.n)
    end,
    rows = function(r)
      local rows = {}
      for _, name in ipairs { "disagreement", "normalised_a", "normalised_b", "chance", "kappa", "js", "kl_ab", "kl_ba",
        "logit_cosine", "accuracy_a", "accuracy_b", "n" } do
        if r[name] then rows[#rows + 1] = { name, r[name] } end
      end
      return { "quantity", "value" }, rows
    end,
  })
  local new_matrix = grid.kind("disagreement", { title = "disagreement" })

  -- ---- what is compared ----

  local function of_tensors(za, zb, y)
    for k, z in ipairs { za, zb or false } do
      if core.kind(z) ~= "tensor" or z.rank < 2 then fail("%s are logits [n, …, classes]", k == 1 and "a" or "b") end
    end
    if za.shape ~= zb.shape then fail("logits of the shapes %s and %s", tostring(za.shape), tostring(zb.shape)) end
    local a, b, sums = seen(za, y), seen(zb, y), new_sums()
    add(sums, a, b)
    local n, c = a.p.shape[1], a.p.shape[2]
    return new_pair(finished(sums, n, c, y and a.right:sum() / n, y and b.right:sum() / n))
  end

  -- Sums over all pairs i < j of models, and how often each is right.
  local function of_models(nets, thetas, data, size)
    local runs, sums, right, n, classes = {}, {}, {}, 0, 0
    for i, net in ipairs(nets) do
      runs[i] = i > 1 and nets[i - 1] == net and runs[i - 1]
        or compile(function(theta, batch) return over.scored(net, theta, batch) end)
      sums[i], right[i] = {}, 0
      for j = i + 1, #nets do sums[i][j] = new_sums() end
    end
    over.chunks(what, data, size, function(b)
      local all, labels = {}, nil
      for i, theta in ipairs(thetas) do
        local z, y = runs[i](theta, { x = b.x, y = b.y })
        all[i], labels = seen(z, y), y
        if labels then right[i] = right[i] + all[i].right:sum() end
      end
      for i = 1, #all do
        if all[i].p.shape ~= all[1].p.shape then
          fail("outputs of the shapes %s and %s", tostring(all[1].p.shape), tostring(all[i].p.shape))
        end
        for j = i + 1, #all do add(sums[i][j], all[i], all[j]) end
      end
      n, classes = n + all[1].p.shape[1], all[1].p.shape[2]
      if not labels then right = nil end
    end)
    return sums, right, n, classes
  end

  local function of_list(net, models, data, o)
    check(what, o, { "batch", "names" })
    local nets, thetas, names = {}, {}, {}
    for i, theta in ipairs(models) do
      nets[i], thetas[i] = net, over.whole(what, net, theta)
      names[i] = o and o.names and o.names[i] or tostring(i)
    end
    local sums, right, n, classes = of_models(nets, thetas, data, o and o.batch or 1000)
    local r, tables = { rows = names, columns = names, n = n }, {}
    for _, name in ipairs { "disagreement", "normalised", "js", "kappa" } do
      tables[name] = {}
      for i = 1, #models do tables[name][i] = {} end
    end
    for i = 1, #models do
      for j = i, #models do
        local a, b = right and right[i] / n, right and right[j] / n
        local p = i == j and { disagreement = 0.0, js = 0.0, kappa = 1.0, normalised_a = 0.0, normalised_b = 0.0 }
          or finished(sums[i][j], n, classes, a, b)
        for name, v in pairs { disagreement = p.disagreement, js = p.js, kappa = p.kappa } do
          tables[name][i][j], tables[name][j][i] = v, v
        end
        tables.normalised[j][i] = p.normalised_b
        tables.normalised[i][j] = p.normalised_a
      end
    end
    local function matrix(rows) return tensor(rows, { dtype = "f64" }) end
    r.matrix, r.js = matrix(tables.disagreement), matrix(tables.js)
    if right then
      r.normalised, r.kappa, r.accuracy = matrix(tables.normalised), matrix(tables.kappa), {}
      for i, k in ipairs(right) do r.accuracy[i] = k / n end
    end
    return new_matrix(r)
  end

  local function agreement(net, a, b, data, o)
    if core.kind(net) == "tensor" then return of_tensors(net, a, b) end
    if not net_of.is(net) then fail("expected a network or logits, got %s", core.kind(net)) end
    if net_of.list(a) then return of_list(net, a, b, data) end
    check(what, o, { "batch", "net_b" })
    o = o or {}
    local other = o.net_b or net
    local thetas = { over.whole(what, net, a), over.whole(what, other, b) }
    local sums, right, n, classes = of_models({ net, other }, thetas, data, o.batch or 1000)
    return new_pair(finished(sums[1][2], n, classes, right and right[1] / n, right and right[2] / n))
  end

  define(what, "probe.agreement(net, a, b, data, {net_b =, batch = 1000}) or probe.agreement(net, {a, b, …}, data, "
    .. "{names =, batch = 1000}) or probe.agreement(logits a, logits b, labels) -> record",
    "Are two models the same function? What they predict on the same data, in one pass. Fields:\n"
    .. "  disagreement: the share of rows with another most likely class\n"
    .. "  normalised_a, normalised_b: that over the error of a or b (Fort et al. 2019, arXiv:1912.02757): near 0 "
    .. "within a mode, near 1 and above between independent runs\n"
    .. "  chance: the disagreement of models with these accuracies that err independently, wrong classes equally "
    .. "likely\n"
    .. "  kappa: of being right or wrong, (observed - expected agreement) / (1 - expected): 1 the same errors, 0 "
    .. "independent ones (NaN where both are always right)\n"
    .. "  js, kl_ab, kl_ba: divergences of the probabilities in nats, means over rows; logit_cosine\n"
    .. "Of a list of models: matrix (disagreement), normalised (row: by that model's error), js, kappa and "
    .. "accuracy. Without labels only what needs none. Reading it: normalised near 1 is as far apart as runs that "
    .. "share nothing, a kappa near 1 the same errors. Cost: one pass over the data with each model.\n"
    .. "Misleads: two bad models disagree much and two good ones little; compare at equal accuracy, or normalise.",
    "local net = nn.mlp { 2, 8, 3 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local d = { x = tensor.normal({ 50, 2 }, 1), y = tensor.randint(0, 3, { 50 }, 2) }\n"
    .. "print(probe.agreement(net, a, a, d).disagreement, probe.agreement(net, { a, b, a }, d).matrix[{ 1, 3 }])\n"
    .. "-- > 0.0\t0.0", told(agreement))
end
