-- SPDX-License-Identifier: Apache-2.0
-- The shape of a way through weights: distances, angles and principal components of a list of checkpoints. All of it
-- follows from inner products, so that checkpoints may lie in files and are read tensor by tensor.
return function(define, check, core)
  local told = require "nn.told"
  local record = require "probe.record"
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local what = "probe.trajectory"
  local short = record.short

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local floating = require "floating"

  -- Inner products of the models, and of their differences to the last one, which would be lost in the first.
  local function products(models, names, o)
    local k, whole, apart, numel = #models, 0, 0, 0
    local draw <close> = progress(what, #names, "tensors")
    local j <close> = journal.open(what, o, { models, names }, draw)
    local function of(name)
      local rows = {}
      for i, m in ipairs(models) do
        local t = m:tensor(name)
        t = t.planned and t:load() or t
        rows[i] = t:to "f64":reshape { 1, t:numel() }
      end
      local x = tensor.cat(rows, 1)
      local d = x - x[{ { k, k } }]
      return { whole = x:matmul(x:t()):totable(), apart = d:matmul(d:t()):totable(), numel = x.shape[2] }
    end
    for at, name in ipairs(names) do
      if floating[models[1]:tensor(name).dtype] then
        local one = j.once({ name }, function() return of(name) end)
        whole, apart = whole + tensor(one.whole, { dtype = "f64" }), apart + tensor(one.apart, { dtype = "f64" })
        numel = numel + one.numel
      end
      draw(at)
    end
    if numel == 0 then fail "there are no floating tensors" end
    return whole:totable(), apart, numel
  end

  local function root(v) return math.sqrt(math.max(v, 0)) end
  local function cosine(dot, a, b) return a > 0 and b > 0 and dot / (a * b) or 0.0 / 0.0 end

  local new = record.kind("trajectory", {
    text = function(r)
      local head, rows = { "", "from start", "to end", "step", "turn", "towards end", "off plane" }, {}
      for t = 1, #r.from_start do
        rows[t] = { tostring(t), short(r.from_start[t]), short(r.to_end[t]), short(r.step[t]), short(r.turn[t]),
          short(r.towards_end[t]), short(r.residual[t]) }
      end
      local shares = {}
      for c, v in ipairs(r.explained) do shares[c] = ("%.2f %%"):format(100 * v) end
      return ("trajectory of %d checkpoints, %d parameters; straightness %s, mean cosine %s, components %s\n%s")
        :format(#r.from_start, r.numel, short(r.straightness), short(r.mean_cosine), table.concat(shares, ", "),
          record.columns(head, rows))
    end,
    rows = function(r)
      local head = { "checkpoint", "norm", "from_start", "to_end", "step", "turn", "towards_end", "cosine_start",
        "residual" }
      for c = 1, #r.explained do head[#head + 1] = "pc" .. c end
      local rows = {}
      for t = 1, #r.from_start do
        rows[t] = { t, r.norm[t], r.from_start[t], r.to_end[t], r.step[t] or "", r.turn[t] or "", r.towards_end[t],
          r.cosine_start[t], r.residual[t] }
        for c = 1, #r.explained do table.insert(rows[t], r.coordinates[t][c]) end
      end
      return head, rows
    end,
    plot = function(r, o)
      local x, y = {}, {}
      for t, row in ipairs(r.coordinates) do x[t], y[t] = row[1], row[2] or 0.0 end
      local function share(k) return r.explained[k] and (": %.1f %%"):format(100 * r.explained[k]) or "" end
      return plot.line(record.with({ { label = "checkpoints", x = x, y = y, notes = { { 1, "start" }, { #x, "end" } } },
        title = "trajectory", xlabel = "1st component" .. share(1), ylabel = "2nd component" .. share(2) }, o))
    end,
  })

  -- Principal components of the models about their mean: eigenvectors of the centred inner products.
  local function components(r, apart, count)
    local k = apart.shape[1]
    local rows = apart:mean(2, true)
    local centred = apart - rows - rows:t() + apart:mean()
    local w, v = centred:eigh()
    local values, vectors, total = w:totable(), v:totable(), 0
    for _, x in ipairs(values) do total = total + math.max(x, 0) end
    r.explained, r.coordinates, r.weights, r.residual = {}, {}, {}, {}
    for t = 1, k do r.coordinates[t] = {} end
    for c = 1, math.min(count, k - 1) do
      local x = math.max(values[k - c + 1], 0)
      r.explained[c] = total > 0 and x / total or 0.0
      r.weights[c] = {}
      for t = 1, k do
        r.coordinates[t][c] = vectors[t][k - c + 1] * math.sqrt(x)
        r.weights[c][t] = x > 0 and vectors[t][k - c + 1] / math.sqrt(x) or 0.0
      end
    end
    local squares = centred:totable()
    for t = 1, k do
      local left = squares[t][t]
      for _, x in ipairs(r.coordinates[t]) do left = left - x * x end
      r.residual[t] = root(left)
    end
  end

  local function trajectory(models, options)
    check(what, options, { "components", "only", "journal" })
    local o = options or {}
    if type(models) ~= "table" or #models < 2 then fail "expected a list of at least two models" end
    local list = {}
    for t = 1, #models do
      local m = models[t]
      list[t] = type(m) == "string" and model.open(m) or m
      if core.kind(list[t]) ~= "model" then fail("checkpoint %d is a %s", t, core.kind(m)) end
    end
    local count = o.components or 2
    if math.type(count) ~= "integer" or count < 1 then fail "components is a whole number above 0" end
    local names = o.only and list[1]:only(o.only):names() or list[1]:names()
    local whole, apart, numel = products(list, names, o)
    local g, k = apart:totable(), #list
    local function distance(i, j) return root(g[i][i] + g[j][j] - 2 * g[i][j]) end
    -- <m_i - m_j, m_p - m_q>
    local function inner(i, j, p, q) return g[i][p] - g[i][q] - g[j][p] + g[j][q] end
    local r = { numel = numel, norm = {}, from_start = {}, to_end = {}, step = {}, turn = {}, towards_end = {},
      cosine_start = {} }
    local length = 0
    for t = 1, k do
      r.norm[t], r.from_start[t], r.to_end[t] = root(whole[t][t]), distance(t, 1), distance(t, k)
      r.cosine_start[t] = cosine(whole[t][1], root(whole[t][t]), root(whole[1][1]))
      r.towards_end[t] = t == 1 and 1.0 or cosine(inner(t, 1, k, 1), distance(t, 1), distance(k, 1))
      if t > 1 then
        r.step[t - 1] = distance(t, t - 1)
        length = length + r.step[t - 1]
      end
      if t > 2 then r.turn[t - 2] = cosine(inner(t, t - 1, t - 1, t - 2), r.step[t - 1], r.step[t - 2]) end
    end
    r.length, r.straightness = length, length > 0 and distance(k, 1) / length or 0.0
    local sum, n = 0, 0
    for i = 1, k do
      for j = 1, k do
        local c = cosine(whole[i][j], root(whole[i][i]), root(whole[j][j]))
        if c == c then sum, n = sum + c, n + 1 end
      end
    end
    r.mean_cosine = n > 0 and sum / n or 0.0
    components(r, apart, count)
    return new(r)
  end

  define(what, "probe.trajectory({model or path, …}, {components = 2, only =, journal =}) -> record",
    "Where did training go? Of checkpoints in order, by tensors of all floating names:\n"
    .. "  norm, from_start, to_end: lengths |theta_t|, |theta_t - theta_1|, |theta_T - theta_t|; cosine_start: the "
    .. "cosine of theta_t and theta_1\n"
    .. "  step: |theta_t+1 - theta_t|; turn: the cosine of a step and the one before it: near 1 straight on, below 0 "
    .. "bouncing\n"
    .. "  towards_end: the cosine of theta_t - theta_1 and theta_T - theta_1\n"
    .. "  length, straightness: of the whole way, and the direct distance over it; mean_cosine: of all pairs of "
    .. "checkpoints (mean directional similarity, Singh et al. 2024, arXiv:2406.16300)\n"
    .. "  explained, coordinates[t], weights: principal components about the mean; component c is the unit vector "
    .. "sum_t weights[c][t] theta_t\n"
    .. "  residual: how far each checkpoint lies from the plane of the components\n"
    .. "  only: names, as in m:only; journal: a file that keeps what is done, tensor by tensor\n"
    .. "Models may lie in files: memory is one tensor of each.\n"
    .. "Reading it: turn near 1 and straightness near 1 are a straight run; turn below 0 with from_start standing "
    .. "still is bouncing in a valley. Cost: one reading of each model, and the products of all pairs.\n"
    .. "Misleads: any random walk has two components that explain most of it, and draws an arc (Antognini, "
    .. "Sohl-Dickstein 2018, arXiv:1806.08805); a contour through the plane shows the loss at projections: look at "
    .. "residual.",
    "local list = {}\nfor t = 0, 3 do list[t + 1] = model.new { { \"w\", tensor { t, 2 * t } } } end\n"
    .. "local r = probe.trajectory(list)\nprint(r.straightness > 0.9999, r.turn[1] > 0.9999, r.explained[1] > 0.9999)\n"
    .. "-- > true\ttrue\ttrue", told(trajectory))
end
