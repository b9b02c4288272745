-- SPDX-License-Identifier: Apache-2.0
-- Whether features follow weights linearly: what a layer of an interpolated or summed model says, against the same
-- combination of what the layers of the models say. Everything is summed over chunks of examples in f64.
return function(define, check, core)
  local told = require "nn.told"
  local record = require "probe.record"
  local points = require "probe.points"(core)
  local features = require "probe.features"(core)
  local journal = require "probe.journal"(core)

  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end

  local short = record.short

  -- ---- comparing a layer with a combination of layers ----

  -- 1 - |cosine| of rows, norms not below 1e-8.
  local function apart(x, y)
    local size = (x * x):sum(2):sqrt():clamp(1e-8) * (y * y):sum(2):sqrt():clamp(1e-8)
    return (1 - ((x * y):sum(2) / size):abs()):sum()
  end

  local function flat(x)
    return x:reshape { x.shape[1], -1 }:to "f64"
  end

  -- Of each layer: the middle model's features against Σ w_k of the others'. thetas: the middle one first.
  local function compare(what, net, thetas, weights, layers, data, o)
    local nets, lists, sums = {}, {}, {}
    for k = 1, #thetas do nets[k], lists[k] = net, layers end
    for i = 1, #layers do sums[i] = { dist = 0, base = 0, mm = 0, mh = 0, hh = 0, off = 0, size = 0 } end
    local n = features.over(what, nets, thetas, lists, data, o, function(seen)
      for i, path in ipairs(layers) do
        local s, m, parts, h = sums[i], flat(seen[1][path]), {}, nil
        for k, w in ipairs(weights) do
          parts[k] = flat(seen[k + 1][path])
          h = h and h + w * parts[k] or w * parts[k]
        end
        s.dist, s.base = s.dist + apart(m, h), s.base + (parts[2] and apart(parts[1], parts[2]) or 0)
        s.mm, s.mh, s.hh = s.mm + m:dot(m), s.mh + m:dot(h), s.hh + h:dot(h)
      end
    end)
    local out = {}
    for i, s in ipairs(sums) do
      local size = math.sqrt(s.mm) * math.sqrt(s.hh)
      out[i] = { layer = layers[i], dist = s.dist / n, dist_flattened = 1 - math.abs(s.mh) / math.max(size, 1e-300),
        baseline = s.base / n, coefficient = s.mh / s.hh }
    end
    return out, n
  end

  local function rows_of(r)
    local out, first = {}, r.rows[1]
    local head = {}
    for _, name in ipairs { "data", "t", "lambda", "layer", "dist", "dist_flattened", "baseline", "coefficient" } do
      if first[name] ~= nil then head[#head + 1] = name end
    end
    for i, row in ipairs(r.rows) do
      out[i] = {}
      for k, name in ipairs(head) do out[i][k] = row[name] end
    end
    return head, out
  end

  local function text_of(r)
    local head, rows = rows_of(r)
    for _, row in ipairs(rows) do
      for k, v in ipairs(row) do row[k] = type(v) == "number" and short(v) or tostring(v) end
    end
    return record.columns(head, rows)
  end

  local function picture(title)
    return function(r, o)
      local lines, by = { title = title, xlabel = "layer", ylabel = "1 - |cosine|" }, {}
      local function point(label, layer, v)
        if not by[label] then
          by[label] = {}
          lines[#lines + 1] = { label, by[label] }
        end
        by[label][layer] = v
      end
      for i, row in ipairs(r.rows) do
        local layer = (i - 1) % r.layers + 1
        point(row.data and ("data %d, lambda %s"):format(row.data, short(row.lambda)) or "t = " .. short(row.t), layer,
          row.dist)
        if row.t then point("a and b apart", layer, row.baseline) end
      end
      return plot.line(record.with(lines, o))
    end
  end

  local function kind(name, title)
    return record.kind(name, { text = function(r) return ("%s; %d examples\n%s"):format(name, r.n, text_of(r)) end,
      rows = rows_of, plot = picture(title) })
  end

  -- ---- models ----

  local function loaded(what, m, whose)
    if core.kind(m) ~= "model" then fail(what, "%s is a model, got %s", whose, core.kind(m)) end
    return m:load()
  end

  local function settled(net, m, bn) return bn and eval.bn_reset(net, m, bn) or m end

  local function list_of(what, name, v, default)
    if v == nil then v = default end
    if type(v) == "number" then v = { v } end
    if type(v) ~= "table" or #v == 0 then fail(what, "%s is a number or a list of numbers", name) end
    for _, t in ipairs(v) do
      if type(t) ~= "number" then fail(what, "%s is a number or a list of numbers", name) end
    end
    return v
  end

  -- ---- LLFC ----

  local new_llfc = kind("llfc", "layer-wise linear feature connectivity")

  define("probe.llfc", "probe.llfc(net, a, b, data, {t = 0.5, layers =, of = \"output\", bn =, batch = 1000, "
    .. "journal =}) -> record",
    "Layer-wise linear feature connectivity (Zhou et al. 2023, arXiv:2307.08286): are the features of (1 - t) a + t b "
    .. "those of a and b, mixed alike? It is what makes weight averages work, and stronger than a path without "
    .. "barrier. rows has for each layer (and t):\n"
    .. "  dist: 1 - |cosine| of an example's features in the middle model and the mixture, mean over examples; "
    .. "dist_flattened: of all examples at once\n"
    .. "  baseline: the same between a and b: dist should be far below it\n"
    .. "  coefficient: <middle, mixture> / |mixture|², which should be 1; below it the features collapse, which a "
    .. "cosine does not see\n"
    .. "  t: a number or a list; bn: data over which running statistics of the middle model are made anew\n"
    .. "  journal: a file that keeps what is done, t by t; a run that was stopped goes on where it ended\n"
    .. "Cost: one pass with three models for each t. Misleads: near the input everything is linear, and nets that "
    .. "hardly differ are trivially so: read it against baseline.",
    "local net = nn.mlp { 3, 8, 2 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local r = probe.llfc(net, a, b, { x = tensor.normal({ 20, 3 }, 1) })\n"
    .. "print(r.rows[1].layer, r.rows[1].dist < 1e-6, r.rows[2].dist > 1e-3)\n-- > fc1\ttrue\ttrue",
    told(function(net, a, b, data, o)
      local what = "probe.llfc"
      check(what, o, { "t", "layers", "of", "bn", "batch", "journal" })
      o = o or {}
      local layers = features.layers(what, net, o.layers)
      a, b = loaded(what, a, "a"), loaded(what, b, "b")
      local ta, tb, r = features.opened(what, net, a), features.opened(what, net, b), { rows = {}, layers = #layers }
      local j <close> = journal.open(what, o, { net, a, b, data })
      for _, t in ipairs(list_of(what, "t", o.t, 0.5)) do
        local got = j.once({ t }, function()
          local middle = features.opened(what, net, settled(net, (1 - t) * a + t * b, o.bn))
          local rows, n = compare(what, net, { middle, ta, tb }, { 1 - t, t }, layers, data, o)
          return { rows = rows, n = n }
        end)
        for _, row in ipairs(got.rows) do
          row.t = t
          r.rows[#r.rows + 1] = row
        end
        r.n = got.n
      end
      return new_llfc(r)
    end))

  -- ---- models of several tasks ----

  local new_cross = kind("cross-task linearity", "cross-task linearity")

  -- The models of {base =, a, b, …}, loaded.
  local function family(what, models, least)
    points.family(what, models)
    local base, list = loaded(what, models.base, "base"), {}
    for k = 1, #models do list[k] = loaded(what, models[k], "model " .. k) end
    if #list < least then fail(what, "expected at least %d models besides the base", least) end
    return base, list
  end

  local function data_of(what, data, n)
    if type(data) ~= "table" or #data ~= n or core.kind(data[1]) == "tensor" then
      fail(what, "expected a list of data, one for each of the %d models", n)
    end
    return data
  end

  define("probe.cross_task", "probe.cross_task(net, {base =, a, b, …}, {data a, data b, …}, {lambda = 0.5, layers =, "
    .. "of = \"output\", bn =, batch = 1000, journal =}) -> record",
    "Cross-task linearity (Zhou et al. 2024, arXiv:2402.03660) of models tuned from one base: are the features of "
    .. "base + lambda * sum of the n task vectors the mean of those of base + n lambda tau_k? At lambda = 1/n that "
    .. "asks whether the mean of the models has the mean of their features; other values are task arithmetic. rows "
    .. "has for each data set, lambda and layer the fields of probe.llfc (baseline: between the first two).\n"
    .. "  lambda: a number or a list; journal: as in probe.llfc\n"
    .. "Reading it, costs, misleads: as probe.llfc.",
    "local net = nn.mlp { 3, 8, 2 }\nlocal m, d = {}, {}\n"
    .. "for k = 1, 3 do m[k], d[k] = net:init { seed = k }, { x = tensor.normal({ 9, 3 }, k) } end\n"
    .. "local r = probe.cross_task(net, { base = m[3], m[1], m[2] }, { d[1], d[2] })\n"
    .. "print(#r.rows, r.rows[1].layer, r.rows[1].dist < 1e-6)\n-- > 4\tfc1\ttrue",
    told(function(net, models, data, o)
      local what = "probe.cross_task"
      check(what, o, { "lambda", "layers", "of", "bn", "batch", "journal" })
      o = o or {}
      local base, list = family(what, models, 2)
      local n = #list
      data_of(what, data, n)
      local layers = features.layers(what, net, o.layers)
      local r, weights, sum = { rows = {}, n = 0, layers = #layers }, {}, nil
      for k, m in ipairs(list) do
        weights[k] = 1 / n
        sum = sum and sum + (m - base) or m - base
      end
      local j <close> = journal.open(what, o, { net, base, list, data })
      for i, lambda in ipairs(list_of(what, "lambda", o.lambda, 1 / n)) do
        local thetas
        local function all()
          thetas = thetas or { features.opened(what, net, settled(net, base + lambda * sum, o.bn)) }
          for k, m in ipairs(#thetas == 1 and list or {}) do
            thetas[k + 1] = features.opened(what, net, settled(net, base + (n * lambda) * (m - base), o.bn))
          end
          return thetas
        end
        for k, d in ipairs(data) do
          local got = j.once({ lambda, k }, function()
            local rows, count = compare(what, net, all(), weights, layers, d, o)
            return { rows = rows, n = count }
          end)
          for _, row in ipairs(got.rows) do
            row.data, row.lambda = k, lambda
            r.rows[#r.rows + 1] = row
          end
          r.n = i == 1 and r.n + got.n or r.n
        end
      end
      return new_cross(r)
    end))

  -- ---- variance ----

  local new_variance = record.kind("variance", {
    text = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do
        rows[i] = { row.layer, short(row.ratio), short(row.ratio_of_sums), short(row.of_mean), tostring(row.channels) }
      end
      return ("variance at t = %s against the two models; %d examples\n%s"):format(short(r.t), r.n,
        record.columns({ "layer", "ratio", "of sums", "of the mean features", "channels" }, rows))
    end,
    rows = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do
        rows[i] = { row.layer, row.ratio, row.ratio_of_sums, row.of_mean, row.channels }
      end
      return { "layer", "ratio", "ratio_of_sums", "of_mean", "channels" }, rows
    end,
    plot = function(r, o)
      local ratio, mean = {}, {}
      for i, row in ipairs(r.rows) do ratio[i], mean[i] = row.ratio, row.of_mean end
      return plot.line(record.with({ { "merged model", ratio }, { "mean of the features", mean }, title = "variance",
        xlabel = "layer", ylabel = "ratio" }, o))
    end,
  })

  -- Moments by channel about the first chunk's mean of a: rows of every place count.
  local function moments(what, net, thetas, layers, data, o)
    local nets, lists, sums, count = {}, {}, {}, {}
    for k = 1, #thetas do nets[k], lists[k] = net, layers end
    local rows = features.flat(what, { places = "rows" })
    local n = features.over(what, nets, thetas, lists, data, o, function(seen)
      for _, path in ipairs(layers) do
        local s = sums[path] or { about = {}, one = {}, two = {}, ab = 0 }
        sums[path] = s
        local x = {}
        for k = 1, #thetas do
          x[k] = rows(seen[k][path]):to "f64"
          s.about[k] = s.about[k] or x[k]:mean(1, true)
          x[k] = x[k] - s.about[k]
          s.one[k], s.two[k] = (s.one[k] or 0) + x[k]:sum(1), (s.two[k] or 0) + (x[k] * x[k]):sum(1)
        end
        s.ab = s.ab + (x[1] * x[2]):sum(1)
        count[path] = (count[path] or 0) + x[1].shape[1]
      end
    end)
    return sums, count, n
  end

  define("probe.variance", "probe.variance(net, a, b, data, {t = 0.5, merged =, layers =, of = \"output\", bn =, "
    .. "batch = 1000}) -> record",
    "Variance collapse (Jordan et al. 2022, arXiv:2211.08403): by how much do the units of (1 - t) a + t b vary less "
    .. "over the data than those of a and b? rows has for each layer\n"
    .. "  ratio: the mean over channels of Var(merged) / ((1 - t) Var(a) + t Var(b)); ratio_of_sums: of the sums "
    .. "over channels\n"
    .. "  of_mean: that ratio for the mixed features (1 - t) a + t b themselves, which follows from the units' "
    .. "correlation: the most that matching can leave, where features are linear\n"
    .. "  merged: a model in the place of the interpolation; layers: paths; images and tokens count place by place\n"
    .. "Reading it: 1 at the ends; falling with depth is collapse, which REPAIR and eval.bn_reset undo. Cost: one "
    .. "pass with three models. Misleads: channels that vary in neither model count as ratio 0 over 1e-12; then "
    .. "read ratio_of_sums.",
    "local net = nn.mlp { 3, 8, 8, 2 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local d = { x = tensor.normal({ 50, 3 }, 1) }\nlocal r = probe.variance(net, a, b, d)\n"
    .. "print(r.rows[2].ratio < 0.9, math.abs(probe.variance(net, a, b, d, { t = 0 }).rows[2].ratio - 1) < 1e-6)\n"
    .. "-- > true\ttrue",
    told(function(net, a, b, data, o)
      local what = "probe.variance"
      check(what, o, { "t", "merged", "layers", "of", "bn", "batch" })
      o = o or {}
      local t = o.t or 0.5
      if type(t) ~= "number" then fail(what, "t is a number") end
      local layers = features.layers(what, net, o.layers)
      a, b = loaded(what, a, "a"), loaded(what, b, "b")
      local merged = settled(net, o.merged and loaded(what, o.merged, "merged") or (1 - t) * a + t * b, o.bn)
      local thetas = { features.opened(what, net, a), features.opened(what, net, b), features.opened(what, net,
        merged) }
      local sums, count, n = moments(what, net, thetas, layers, data, o)
      local r = { t = t, rows = {}, n = n }
      for i, path in ipairs(layers) do
        local s, m = sums[path], count[path]
        local function var(k) return s.two[k] / m - (s.one[k] / m) ^ 2 end
        local va, vb, vm = var(1), var(2), var(3)
        local cov = s.ab / m - (s.one[1] / m) * (s.one[2] / m)
        local between = (1 - t) * va + t * vb
        local mixed = (1 - t) ^ 2 * va + t ^ 2 * vb + 2 * t * (1 - t) * cov
        local safe = between:clamp(1e-12)
        r.rows[i] = { layer = path, ratio = (vm / safe):mean(), ratio_of_sums = vm:sum() / between:sum(),
          of_mean = (mixed / safe):mean(), channels = va:numel() }
      end
      return new_variance(r)
    end))

  -- ---- the bias of merged representations ----

  local new_bias = record.kind("representation bias", {
    text = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do rows[i] = { row.layer, short(row.bias), short(row.relative) } end
      return ("representation bias; %d examples\n%s"):format(r.n, record.columns({ "layer", "bias", "relative" }, rows))
    end,
    rows = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do rows[i] = { row.layer, row.bias, row.relative } end
      return { "layer", "bias", "relative" }, rows
    end,
    plot = function(r, o)
      local relative = {}
      for i, row in ipairs(r.rows) do relative[i] = row.relative end
      return plot.line(record.with({ { "relative bias", relative }, title = "representation bias", xlabel = "layer",
        ylabel = "|merged - tuned| / |tuned|" }, o))
    end,
  })

  define("probe.representation_bias", "probe.representation_bias(net, merged, tuned, data, {layers =, of = \"output\", "
    .. "batch = 1000}) -> record",
    "How far are the features of a merged model from those of the model that was tuned for the data (Yang et al. "
    .. "2024, arXiv:2402.02705, whose surgery train.surgery is)? rows has for each layer bias, the mean over "
    .. "examples and features of |merged - tuned|, and relative, that over the mean of |tuned|. Reading it: it "
    .. "grows with depth; what is small up to the last layer is lost in the head. Cost: one pass with two models. "
    .. "Misleads: a rotation that the next layer undoes counts in full; see probe.procrustes.",
    "local net = nn.mlp { 3, 8, 2 }\nlocal a, d = net:init { seed = 1 }, { x = tensor.normal({ 20, 3 }, 1) }\n"
    .. "print(probe.representation_bias(net, a, a, d).rows[1].bias)\n-- > 0.0",
    told(function(net, merged, tuned, data, o)
      local what = "probe.representation_bias"
      check(what, o, { "layers", "of", "batch" })
      o = o or {}
      local layers = features.layers(what, net, o.layers)
      local thetas = { features.opened(what, net, merged), features.opened(what, net, tuned) }
      local off, size, count = {}, {}, {}
      local n = features.over(what, { net, net }, thetas, { layers, layers }, data, o, function(seen)
        for i, path in ipairs(layers) do
          local x, y = seen[1][path]:to "f64", seen[2][path]:to "f64"
          off[i], size[i] = (off[i] or 0) + (x - y):abs():sum(), (size[i] or 0) + y:abs():sum()
          count[i] = (count[i] or 0) + y:numel()
        end
      end)
      local rows = {}
      for i, path in ipairs(layers) do
        rows[i] = { layer = path, bias = off[i] / count[i], relative = off[i] / size[i] }
      end
      return new_bias { rows = rows, n = n }
    end))

end
