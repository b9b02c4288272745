-- SPDX-License-Identifier: Apache-2.0
-- How alike two representations are: of features X [n, p] and Y [n, q] of the same n examples, or of all pairs of
-- layers of two networks. A measure is what is prepared once for each matrix of features, and what is computed of two
-- such; all in f64. Kornblith et al. 2019 (arXiv:1905.00414) compare most of them.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local record = require "probe.record"
  local grid = require "probe.grid"
  local features = require "probe.features"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)

  local function fail(text, ...) error(text:format(...), 0) end

  -- Whether a call is about the layers of a network; else it is about two tensors.
  local function of_net(what, first)
    local kind = core.kind(first)
    if net_of.is(first) or kind == "tensor" then return kind ~= "tensor" end
    fail("%s: expected a network and its models, or two tensors [examples, …], got %s", what, kind)
  end

  local function matrix(what, t, name)
    if core.kind(t) ~= "tensor" then fail("%s: %s is a tensor [examples, …], got %s", what, name, core.kind(t)) end
    local shape = t.shape
    if #shape < 1 or shape[1] == 0 then fail("%s: %s has no examples", what, name) end
    local x = (#shape == 2 and t or t:reshape { shape[1], t:numel() // shape[1] }):to "f64"
    if x:numel() == 0 then fail("%s: %s has no features", what, name) end
    if not x:isfinite():all() then fail("%s: %s holds values that are not finite", what, name) end
    return x
  end

  local function centred(x) return x - x:mean(1, true) end

  -- ---- kernels and HSIC ----

  local Linear, Kernel = {}, {}
  Linear.__index, Kernel.__index = Linear, Kernel

  -- |X' Y|² by whichever of X' Y and the Gram matrices is less work.
  local function cross(a, b)
    local n, p, q = a.n, a.p, b.p
    if p * q <= n * math.max(p, q) then
      local m = a.x:t():matmul(b.x)
      return m:dot(m)
    end
    a.gram = a.gram or a.x:matmul(a.x:t())
    b.gram = b.gram or b.x:matmul(b.x:t())
    return a.gram:dot(b.gram)
  end

  function Linear.new(x)
    x = centred(x)
    local squares = (x * x):sum(2)
    return setmetatable({ x = x, n = x.shape[1], p = x.shape[2], squares = squares, total = squares:sum() }, Linear)
  end

  function Linear.biased(a, b) return cross(a, b) / (a.n - 1) ^ 2 end

  -- Rows of a kernel of centred features sum to zero, so without its diagonal they sum to minus the squared norms.
  function Linear.unbiased(a, b)
    local n, uv = a.n, a.squares:dot(b.squares)
    return (cross(a, b) - uv + a.total * b.total / ((n - 1) * (n - 2)) - 2 / (n - 2) * uv) / (n * (n - 3))
  end

  -- exp(-d² / 2h²), h a share of the median distance of two examples.
  function Kernel.new(x, share)
    x = centred(x)
    local n = x.shape[1]
    local squares = (x * x):sum(2)
    local d = (squares:reshape { n, 1 } + squares - 2 * x:matmul(x:t())):clamp(0)
    local eye = tensor.eye(n):to "f64"
    d = d * (1 - eye)
    -- In ascending order come n zeros of the diagonal, then every distance twice.
    local pairs_of = n * (n - 1) // 2
    local function distance(k) return math.sqrt(d:kth_largest(n * n - n - 2 * k + 1)) end
    local median = (distance((pairs_of + 1) // 2) + distance(pairs_of // 2 + 1)) / 2
    if median == 0 then return nil end
    local k = (d / (-2 * (share * median) ^ 2)):exp()
    local off = k - k * eye
    local rows, mean = off:sum(2), k:mean(2, true)
    return setmetatable({ n = n, centred = k - mean - mean:t() + k:mean(), off = off, rows = rows, total = rows:sum(),
      median = median }, Kernel)
  end

  function Kernel.biased(a, b) return a.centred:dot(b.centred) / (a.n - 1) ^ 2 end

  function Kernel.unbiased(a, b)
    local n = a.n
    return (a.off:dot(b.off) + a.total * b.total / ((n - 1) * (n - 2)) - 2 / (n - 2) * a.rows:dot(b.rows))
      / (n * (n - 3))
  end

  local nan = 0.0 / 0.0

  -- Undefined where one side does not vary, or where an estimate of its own dependence is not above 0.
  local function ratio(xy, xx, yy)
    if not (xx > 0 and yy > 0) then return nan end
    return xy / math.sqrt(xx * yy)
  end

  -- ---- the others ----

  -- Left singular vectors and values above rounding: dead units and copies of units do not count as directions.
  local function directions(x)
    local n, p = x.shape[1], x.shape[2]
    local u, s = x:svd()
    local values = s:totable()
    local least, rank = values[1] * math.max(n, p) * 0x1p-52, 0
    while rank < #values and values[rank + 1] > least do rank = rank + 1 end
    if rank == 0 then return nil end
    return u[{ {}, { 1, rank } }], s[{ { 1, rank } }], rank
  end

  local function enough(what, n, p, name)
    if n > p + 1 then return end
    fail("%s: %s has %d directions for %d examples; canonical correlations are 1 for any data unless there are more "
      .. "examples than that. Take more data, places = \"mean\" or \"rows\", fewer units, or probe.svcca with a "
      .. "smaller keep (CKA and Procrustes have no such need)", what, name, p, n)
  end

  local function correlations(a, b)
    local u, r, vt = a.u:t():matmul(b.u):svd()
    return r:clamp(0, 1), a.u:matmul(u), b.u:matmul(vt:t())
  end

  local function numbers(t) return t:totable() end

  local measures = {}

  measures.cca = {
    prepare = function(what, x, _, name)
      enough(what, x.shape[1], x.shape[2], name)
      local u = directions(centred(x))
      return u and { u = u, n = x.shape[1] } or fail("%s: %s does not vary", what, name)
    end,
    compare = function(a, b)
      local r = correlations(a, b)
      return { value = r:mean(), mean_squared = (r * r):mean(), correlations = numbers(r) }
    end,
    text = function(r)
      return ("mean correlation %.4f of %d directions, mean square %.4f"):format(r.value, #r.correlations,
        r.mean_squared)
    end,
  }

  measures.svcca = {
    prepare = function(what, x, o, name)
      local u, s, rank = directions(centred(x))
      if not u then fail("%s: %s does not vary", what, name) end
      local weight = o.of_sum == "values" and s or s * s
      local share, kept = (weight:cumsum(1) / weight:sum()):totable(), 1
      while kept < rank and share[kept] < o.keep do kept = kept + 1 end
      enough(what, x.shape[1], kept, name)
      return { u = u[{ {}, { 1, kept } }], kept = kept, n = x.shape[1] }
    end,
    compare = function(a, b)
      local r = correlations(a, b)
      return { value = r:mean(), correlations = numbers(r), dims = { a.kept, b.kept } }
    end,
    text = function(r)
      return ("mean correlation %.4f; %d and %d directions kept"):format(r.value, r.dims[1], r.dims[2])
    end,
  }

  measures.pwcca = {
    prepare = function(what, x, _, name)
      enough(what, x.shape[1], x.shape[2], name)
      x = centred(x)
      local u = directions(x)
      return u and { u = u, x = x, n = x.shape[1] } or fail("%s: %s does not vary", what, name)
    end,
    compare = function(a, b)
      local r, ha, hb = correlations(a, b)
      local function weighted(h, x)
        local w = h:t():matmul(x):abs():sum(2)
        return w:dot(r) / w:sum()
      end
      return { value = weighted(ha, a.x), by_y = weighted(hb, b.x), correlations = numbers(r) }
    end,
    text = function(r) return ("%.4f by the weights of X, %.4f by those of Y"):format(r.value, r.by_y) end,
  }

  measures.procrustes = {
    prepare = function(what, x, _, name)
      x = centred(x)
      local n, size = x.shape[1], x:norm()
      if size == 0 then fail("%s: %s does not vary", what, name) end
      -- What lies outside the span of the rows changes no singular value of X' Y: n rows are enough.
      local narrow = x.shape[2] > n and select(2, x:t():qr()):t() or x
      return { x = narrow, full = x, size = size, n = n }
    end,
    compare = function(a, b, o)
      local u, s, vt = a.x:t():matmul(b.x):svd()
      local sum = s:sum()
      local r = { value = 2 - 2 * sum / (a.size * b.size), norms = { a.size, b.size } }
      if not o.matrix and rawequal(a.x, a.full) and rawequal(b.x, b.full) then
        r.rotation = u:matmul(vt)
        r.residual = (a.x:matmul(r.rotation) - b.x):norm()
      end
      return r
    end,
    text = function(r) return ("distance %.4f (0: a rotation and a scale, 2: nothing in common)"):format(r.value) end,
  }

  measures.matched_correlation = {
    prepare = function(_, x)
      x = centred(x)
      local std = (x * x):mean(1, true):sqrt()
      local scale = tensor.where(std:gt(0), 1 / tensor.where(std:gt(0), std, 1), 0)
      return { x = x * scale, raw = x, size = x:norm(), n = x.shape[1] }
    end,
    compare = function(a, b, o)
      local c = a.x:t():matmul(b.x) / a.n
      local r = { value = nil, best_x = c:max(2):mean(), best_y = c:max(1):mean() }
      local function matched(m)
        local of = align.assignment(m, { maximise = true })
        return m:take_along(2, of:reshape { -1, 1 }), of
      end
      local rows = c.shape[1]
      if rows > c.shape[2] then c = c:t() end
      local values, of = matched(c)
      r.value = values:mean()
      if not o.matrix then
        r.correlations, r.match = values:flatten():totable(), of:totable()
        r.rows = rows > b.x.shape[2] and "y" or "x"
        if a.raw.shape == b.raw.shape and a.size > 0 and b.size > 0 then
          r.procrustes = 2 - 2 * matched(a.raw:t():matmul(b.raw) / (a.size * b.size)):sum()
        end
      end
      return r
    end,
    text = function(r)
      return ("mean correlation of matched units %.4f; of the best partner %.4f (X), %.4f (Y)"):format(r.value,
        r.best_x, r.best_y)
    end,
  }

  -- ---- records ----

  local pair_kinds, matrix_kinds = {}, {}

  local function kinds_of(name, text)
    pair_kinds[name] = record.kind(name, {
      text = function(r) return ("%s: %s; %d examples"):format(name, text(r), r.n) end,
      rows = function(r) return { "measure", "value", "examples" }, { { name, r.value, r.n } } end,
      plot = function(r, o)
        if not r.correlations then error("record:plot: one number makes no picture; that of layers has one", 0) end
        return plot.line(record.with({ record.sorted("correlation", r.correlations), title = (name:gsub("_", " ")),
          xlabel = "share of the " .. (name == "matched_correlation" and "units" or "directions"),
          ylabel = "correlation" }, o))
      end })
    matrix_kinds[name] = grid.kind(name .. " of layers", { title = (name:gsub("_", " ")),
      xlabel = "b", ylabel = "a", lim = name == "procrustes" and { 0, 2 } or { 0, 1 } })
  end

  for name, m in pairs(measures) do kinds_of(name, m.text) end

  local net_options = { "layers", "layers_b", "net_b", "batch", "places", "of", "journal" }

  local function with(list, more)
    local out = table.move(list, 1, #list, 1, {})
    return table.move(more, 1, #more, #out + 1, out)
  end

  -- Networks, models as tables of tensors and layers of both sides.
  local function sides(what, net, a, b, o)
    local other = o.net_b or net
    local la = features.layers(what, net, o.layers)
    local lb = other == net and not o.layers_b and la or features.layers(what, other, o.layers_b or
      (other == net and la or nil))
    local ta = features.opened(what, net, a)
    local tb = rawequal(a, b) and other == net and ta or features.opened(what, other, b)
    return { net, other }, { ta, tb }, { la, lb }
  end

  local function same_rows(what, x, y)
    if x.shape[1] ~= y.shape[1] then
      fail("%s: X has %d examples, Y has %d; rows are the same examples in one order", what, x.shape[1], y.shape[1])
    end
  end

  local function equal_rows(what, path, x, n)
    if x.shape[1] == n then return end
    fail("%s: layer %s has %d rows, others %d; places = \"mean\" makes them equal", what, path, x.shape[1], n)
  end

  local function of_layers(what, name, net, a, b, data, o)
    local nets, thetas, lists = sides(what, net, a, b, o)
    local own, values = { matrix = true }, {}
    for key, v in pairs(o) do own[key] = v end
    local m, prepared, all = measures[name], { {}, {} }, nil
    local draw <close> = progress(what, #lists[1] * #lists[2], "pairs of layers")
    local kept <close> = journal.open(what, o, { nets, thetas, data }, draw)

    -- Features, and what a measure makes of each layer, when a pair asks for them.
    local function layer(k, i)
      all = all or features.all(what, nets, thetas, lists, data, o)
      local path = lists[k][i]
      if not prepared[k][i] then
        local x = matrix(what, all[k][path], "layer " .. path)
        prepared[k][i] = m.prepare(what, x, own, ("layer %s of %s"):format(path, k == 1 and "a" or "b"))
      end
      return prepared[k][i]
    end
    local n = kept.once({ "examples" }, function()
      all = features.all(what, nets, thetas, lists, data, o)
      local rows = all[1][lists[1][1]].shape[1]
      for k = 1, 2 do
        for _, path in ipairs(lists[k]) do equal_rows(what, path, all[k][path], rows) end
      end
      return rows
    end)
    for i in ipairs(lists[1]) do
      values[i] = {}
      for j in ipairs(lists[2]) do
        values[i][j] = kept.once({ i, j }, function() return m.compare(layer(1, i), layer(2, j), own).value end)
        draw((i - 1) * #lists[2] + j)
      end
    end
    return matrix_kinds[name] { n = n, rows = lists[1], columns = lists[2],
      matrix = tensor(values, { dtype = "f64" }), options = { places = o.places or "features", of = o.of or "output" } }
  end

  local function measure(name, own, defaults)
    local what = "probe." .. name
    return told(function(first, ...)
      local on_net = of_net(what, first)
      local a, b, data, options = ...
      if not on_net then options = b end
      check(what, options, on_net and with(net_options, own) or own)
      if options and options.keep ~= nil then expect.one(what, "keep", options.keep, "a number") end
      local o = {}
      for key, v in pairs(defaults) do o[key] = v end
      for key, v in pairs(options or {}) do o[key] = v end
      if on_net then return of_layers(what, name, first, a, b, data, o) end
      local x, y = matrix(what, first, "X"), matrix(what, a, "Y")
      same_rows(what, x, y)
      local m = measures[name]
      local r = m.compare(m.prepare(what, x, o, "X"), m.prepare(what, y, o, "Y"), o)
      r.n = x.shape[1]
      return pair_kinds[name](r)
    end)
  end

  -- ---- CKA ----

  local function number(what, o, name, default, low, high)
    local v = o[name] == nil and default or o[name]
    if type(v) ~= "number" or not (v > low and v <= high) then
      fail("%s: %s is a number above %g%s, got %s", what, name, low,
        high < math.huge and (" and at most %g"):format(high) or "", tostring(v))
    end
    return v
  end

  local cka_options = { "kernel", "bandwidth", "unbiased", "minibatch" }

  local function cka_of(o)
    local what, p = "probe.cka", {}
    p.kernel = o.kernel or "linear"
    if p.kernel ~= "linear" and p.kernel ~= "rbf" then
      fail("%s: kernel = %q; expected \"linear\" or \"rbf\"", what, tostring(p.kernel))
    end
    p.bandwidth = number(what, o, "bandwidth", 1, 0, math.huge)
    p.minibatch = o.minibatch
    if p.minibatch ~= nil and (math.type(p.minibatch) ~= "integer" or p.minibatch < 4) then
      fail("%s: minibatch is a whole number, at least 4", what)
    end
    p.unbiased = o.unbiased == nil and p.minibatch ~= nil or o.unbiased or false
    if p.minibatch and not p.unbiased then
      fail("%s: biased estimates of minibatches do not average to that of the data; leave unbiased = false out", what)
    end
    p.dependence = p.unbiased and "unbiased" or "biased"
    return p
  end

  local function kernel_of(p, x)
    local n = x.shape[1]
    if n < (p.unbiased and 4 or 2) then
      fail("probe.cka: %d examples; the %s estimate needs %d", n, p.dependence, p.unbiased and 4 or 2)
    end
    if p.kernel == "linear" then return Linear.new(x) end
    return Kernel.new(x, p.bandwidth)
  end

  -- Sums over minibatches of the dependences of all pairs of two lists of features; once: of a journal, where there is
  -- a single one.
  local function gather(p, sums, xs, ys, once, draw)
    -- Kernels when they are asked for.
    local function kernels(list)
      local made = {}
      return function(i)
        if made[i] == nil then made[i] = kernel_of(p, list[i]) or false end
        return made[i]
      end
    end
    local a = kernels(xs)
    local b = xs == ys and a or kernels(ys)
    local function dependence(key, f, i, g, j)
      return once(key, function()
        local x, y = f(i), g(j)
        return x and y and x[p.dependence](x, y) or 0
      end)
    end
    for i = 1, #xs do
      sums.xx[i] = (sums.xx[i] or 0) + dependence({ "xx", i }, a, i, a, i)
      sums.xy[i] = sums.xy[i] or {}
      for j = 1, #ys do
        sums.xy[i][j] = (sums.xy[i][j] or 0) + dependence({ "xy", i, j }, a, i, b, j)
        if draw then draw((i - 1) * #ys + j) end
      end
    end
    for j = 1, #ys do sums.yy[j] = (sums.yy[j] or 0) + dependence({ "yy", j }, b, j, b, j) end
    sums.batches = sums.batches + 1
  end

  local function new_sums() return { xx = {}, yy = {}, xy = {}, batches = 0 } end

  kinds_of("cka", function(r)
    return ("%.4f (%s, %s)"):format(r.value, r.kernel, r.unbiased and "unbiased" or "biased")
  end)

  local function cka_tensors(x, y, p)
    local what = "probe.cka"
    x, y = matrix(what, x, "X"), matrix(what, y, "Y")
    same_rows(what, x, y)
    local n, size = x.shape[1], p.minibatch or x.shape[1]
    local sums = new_sums()
    for first = 1, math.max(n - size + 1, 1), size do -- a last batch that is not full is left out
      local rows = { { first, math.min(first + size - 1, n) } }
      gather(p, sums, { x[rows] }, { y[rows] }, journal.none.once)
    end
    local k = sums.batches
    local xy, xx, yy = sums.xy[1][1] / k, sums.xx[1] / k, sums.yy[1] / k
    return pair_kinds.cka { value = ratio(xy, xx, yy), n = n, kernel = p.kernel,
      bandwidth = p.kernel == "rbf" and p.bandwidth or nil, unbiased = p.unbiased, minibatch = p.minibatch,
        hsic_xy = xy,
      hsic_xx = xx, hsic_yy = yy }
  end

  local function cka_layers(net, a, b, data, o, p)
    local what = "probe.cka"
    local nets, thetas, lists = sides(what, net, a, b, o)
    local sums, flat = new_sums(), features.flat(what, o)
    sums.n = 0
    local one = rawequal(thetas[1], thetas[2]) and rawequal(lists[1], lists[2])
    local draw <close> = not p.minibatch and progress(what, #lists[1] * #lists[2], "pairs of layers") or nil
    local kept <close> = journal.open(what, o, { nets, thetas, data }, draw)
    local function add(seen, into, once)
      local xs = { {}, {} }
      for k = 1, 2 do
        for i, path in ipairs(lists[k]) do xs[k][i] = matrix(what, seen[k][path], "layer " .. path) end
      end
      local rows = xs[1][1].shape[1]
      for k = 1, 2 do
        for i, x in ipairs(xs[k]) do equal_rows(what, lists[k][i], x, rows) end
      end
      into.n = into.n + rows
      gather(p, into, xs[1], one and xs[1] or xs[2], once, draw)
    end
    if p.minibatch then
      local options = { batch = p.minibatch, of = o.of }
      sums = kept.loop({ "sums" }, function(loop)
        return (features.over(what, nets, thetas, lists, data, options, function(seen, first, batch, into)
          if batch.x.shape[1] < p.minibatch and first > 1 then return end
          for k = 1, 2 do
            local out = {}
            for path, t in pairs(seen[k]) do out[path] = flat(t) end
            seen[k] = out
          end
          add(seen, into, journal.none.once)
        end, loop, sums))
      end)
    else
      add(features.all(what, nets, thetas, lists, data, o), sums, kept.once)
    end
    local values = {}
    for i in ipairs(lists[1]) do
      values[i] = {}
      for j in ipairs(lists[2]) do values[i][j] = ratio(sums.xy[i][j], sums.xx[i], sums.yy[j]) end
    end
    return matrix_kinds.cka { n = sums.n, rows = lists[1], columns = lists[2],
      matrix = tensor(values, { dtype = "f64" }), options = { kernel = p.kernel, unbiased = p.unbiased,
        minibatch = p.minibatch, places = o.places or "features", of = o.of or "output" } }
  end

  local cka = told(function(first, ...)
    local on_net = of_net("probe.cka", first)
    local a, b, data, options = ...
    if not on_net then options = b end
    check("probe.cka", options, on_net and with(net_options, cka_options) or cka_options)
    local o = options or {}
    local p = cka_of(o)
    if on_net then return cka_layers(first, a, b, data, o, p) end
    return cka_tensors(first, a, p)
  end)

  -- ---- relative representations ----

  local new_relative = record.kind("relative", {
    text = function(r)
      return ("relative: mean cosine %.4f; %.4f of the %d nearest neighbours in common; %d anchors, %d examples")
        :format(r.value, r.overlap, r.neighbours, #r.anchors, r.n)
    end,
    rows = function(r) return { "cosine", "overlap", "examples" }, { { r.value, r.overlap, r.n } } end,
    plot = function(r, o)
      return plot.line(record.with({ record.sorted("cosine", r.cosines), title = "relative representations",
        xlabel = "share of the examples", ylabel = "cosine of the two representations" }, o))
    end })

  local function unit(x)
    local size = (x * x):sum(2, true):sqrt()
    return x / tensor.where(size:gt(0), size, 1)
  end

  local function relative(x, y, options)
    local what = "probe.relative"
    check(what, options, { "anchors", "seed", "neighbours" })
    local o = options or {}
    x, y = matrix(what, x, "X"), matrix(what, y, "Y")
    same_rows(what, x, y)
    local n = x.shape[1]
    local anchors = o.anchors or math.min(n, 300)
    if math.type(anchors) == "integer" then
      if anchors < 1 or anchors > n then fail("%s: %d anchors of %d examples", what, anchors, n) end
      anchors = tensor.randperm(n, o.seed or 0)[{ { 1, anchors } }]:totable()
    elseif type(anchors) ~= "table" or #anchors == 0 then
      fail("%s: anchors is how many, or a list of positions", what)
    end
    local near = o.neighbours or 10
    if math.type(near) ~= "integer" or near < 1 then fail("%s: neighbours is a whole number above 0", what) end
    near = math.min(near, n - 1)
    if near < 1 then fail("%s: one example has no neighbours", what) end
    local at = tensor(anchors, { dtype = "i64" })
    local function seen_from(z)
      z = unit(z)
      return z:matmul(z[at]:t())
    end
    local rx, ry = seen_from(x), seen_from(y)
    local eye = tensor.eye(n):to "f64"
    local function closest(r)
      local c = unit(r)
      local _, order = (c:matmul(c:t()) - 4 * eye):topk(near, 2)
      return tensor.zeros({ n, n }):scatter_add(2, order, tensor.ones { n, near })
    end
    local common = (closest(rx) * closest(ry)):sum() / (n * near)
    local cosines = (unit(rx) * unit(ry)):sum(2)
    return new_relative { value = cosines:mean(), cosines = cosines:totable(), overlap = common, neighbours = near,
      n = n, anchors = anchors, x = rx, y = ry }
  end

  -- ---- documentation ----

  local nets = "  layers, layers_b: paths of parts (default: the layers that by.depth sees); net_b: the network of b, "
    .. "where it is another\n"
    .. "  of: \"output\" of a layer or its \"input\"\n"
    .. "  places: what becomes of images and tokens [n, …, c]: \"features\" of their own, \"rows\" as if they were "
    .. "examples, their \"mean\"\n"
    .. "  batch: examples at a time; the features of all layers are held in memory\n"
    .. "  journal: a file that keeps what is done, pair by pair; a run that was stopped goes on where it ended"
  local made = "local X = tensor.normal({ 40, 4 }, 1)\nlocal Q = tensor.normal({ 4, 4 }, 2):qr()\n"

  define("probe.cka", "probe.cka(X, Y, {kernel = \"linear\", bandwidth = 1, unbiased = false, minibatch =}) or "
    .. "probe.cka(net, a, b, data, {layers =, layers_b =, net_b =, places = \"features\", of = \"output\", batch = "
    .. "1000, …}) -> record",
    "Centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414): do two layers see the same examples as "
    .. "similar? 1: the same up to rotation, scale and shift; 0: unrelated. value is HSIC(X, Y) / sqrt(HSIC(X, X) "
    .. "HSIC(Y, Y)), with hsic_xy, hsic_xx and hsic_yy; for networks matrix[i][j] of layer rows[i] of a and layer "
    .. "columns[j] of b. Read the picture along its diagonal: layers of equal depth should agree most, and blocks "
    .. "are layers that do little.\n"
    .. "  kernel: \"linear\", or \"rbf\" with the width `bandwidth` times the median distance\n"
    .. "  unbiased: the U-statistic (Song et al. 2012), near 0 for unrelated features where the biased one grows "
    .. "with their number over examples; may be negative, and NaN where a layer does not vary\n"
    .. "  minibatch: unbiased estimates of so many examples, averaged before the quotient (Nguyen et al. 2021, "
    .. "arXiv:2010.15327): memory of one batch. A last batch that is not full is left out\n" .. nets .. "\n"
    .. "Costs n p q for widths p and q, or n² (p + q). Misleads: few directions of large variance decide it, and it "
    .. "can be moved without changing the function (Davari et al. 2022, arXiv:2210.16156): look at probe.procrustes "
    .. "beside it.",
    made .. "print(math.abs(probe.cka(X, 3 * X:matmul(Q) + 1).value - 1) < 1e-5)\n"
    .. "print(probe.cka(X, tensor.normal({ 40, 4 }, 3), { unbiased = true }).value < 0.2)\n-- > true\n-- > true\n"
    .. "local net = nn.mlp { 4, 8, 8, 2 }\nlocal a, b = net:init { seed = 1 }, net:init { seed = 2 }\n"
    .. "local r = probe.cka(net, a, b, { x = X })\nprint(r.matrix.shape, r.rows[3])\n-- > [3, 3]\tfc3", cka)

  define("probe.cca", "probe.cca(X, Y) or probe.cca(net, a, b, data, {layers =, layers_b =, net_b =, places = "
    .. "\"features\", of = \"output\", batch = 1000, journal =}) -> record",
    "Canonical correlations: which directions of the one representation are linear functions of the other? value: "
    .. "their mean over the smaller rank, mean_squared, correlations (descending); 1 for any invertible linear map.\n"
    .. nets .. "\n"
    .. "Reading it: r:plot() of two matrices shows the correlations; a few at 1 are a shared subspace. Directions "
    .. "below rounding (dead units, copies) do not count. Needs more examples than features, or is refused: else "
    .. "all correlations are 1. Misleads: noise directions count as much as the strong ones; near that limit all "
    .. "values are high. Costs n p² + n q².",
    made .. "print(probe.cca(X, X:matmul(tensor.normal({ 4, 4 }, 5))).value > 0.9999)\n-- > true",
    measure("cca", {}, {}))

  define("probe.svcca", "probe.svcca(X, Y, {keep = 0.99, of_sum = \"variance\"}) or probe.svcca(net, a, b, data, "
    .. "{keep = 0.99, of_sum = \"variance\", layers =, layers_b =, net_b =, places = \"features\", of = \"output\", "
    .. "batch = 1000, journal =}) -> record",
    "How far do the strongest principal directions of each side agree? CCA between them (Raghu et al. 2017, "
    .. "arXiv:1706.05806): value is the mean correlation, dims how many were kept.\n"
    .. "  keep: the fewest directions with this share\n"
    .. "  of_sum: of \"variance\" (paper), or of singular \"values\", which keeps more, as some code does\n" .. nets
    .. "\nReading it: with dims: a mean near 1 of few directions says little. Costs an SVD of each side. Misleads: "
    .. "dims moves with keep, and the mean with dims; compare at equal dims.",
    made .. "local r = probe.svcca(X, X:matmul(Q), { keep = 0.9 })\nprint(r.value > 0.9999, r.dims[1] == r.dims[2])\n"
    .. "-- > true\ttrue", measure("svcca", { "keep", "of_sum" }, { keep = 0.99 }))

  define("probe.pwcca", "probe.pwcca(X, Y) or probe.pwcca(net, a, b, data, {layers =, layers_b =, net_b =, places = "
    .. "\"features\", of = \"output\", batch = 1000, journal =}) -> record",
    "Do the directions that matter in X lie in Y too? CCA whose correlations are weighted by how much of X each "
    .. "direction accounts for (Morcos et al. 2018, "
    .. "arXiv:1806.05759). value has the weights of X, by_y those of Y: the measure is not symmetric.\n" .. nets
    .. "\nReading it: set value beside by_y: a gap says that one side holds the other. Needs more examples than "
    .. "features, and costs, as probe.cca. Misleads: a few directions of large variance carry the weight.",
    made .. "print(probe.pwcca(X, X:matmul(Q)).value > 0.9999)\n-- > true", measure("pwcca", {}, {}))

  define("probe.procrustes", "probe.procrustes(X, Y) or probe.procrustes(net, a, b, data, {layers =, layers_b =, "
    .. "net_b =, places = \"features\", of = \"output\", batch = 1000, journal =}) -> record",
    "Are two representations one up to a rotation? Orthogonal Procrustes distance of features that are centred and "
    .. "scaled to norm 1: 2 - 2 |X' Y|_*, from 0 (a rotation and a scale apart) to 2 (Ding et al. 2021, "
    .. "arXiv:2108.01661; anatome's is half of it). rotation is the Q that minimises |X Q - Y| of the centred "
    .. "features, residual that minimum (where there are no more "
    .. "features than examples).\n" .. nets .. "\n"
    .. "A metric, unlike 1 - CKA, and it sees small directions that CKA does not. Costs an SVD of the smaller "
    .. "widths.\n"
    .. "Reading it: read it beside CKA: small here and there, the layers are the same. Misleads: noise in many "
    .. "small directions adds up, and widths that differ leave a distance of their own.",
    made .. "local r = probe.procrustes(X, X:matmul(Q))\nprint(r.value < 1e-5, r.rotation:allclose(Q, { atol = 1e-4 "
      .. "}))\n"
    .. "-- > true\ttrue", measure("procrustes", {}, {}))

  define("probe.matched_correlation", "probe.matched_correlation(X, Y) or probe.matched_correlation(net, a, b, data, "
    .. "{layers =, layers_b =, net_b =, places = \"features\", of = \"output\", batch = 1000, journal =}) -> record",
    "Do two layers have the same units? Units are paired one to one so that the sum of their correlations is largest "
    .. "(Li et al. 2015, arXiv:1511.07543): value is the mean, correlations and match belong to each unit of the "
    .. "side in rows (the narrower one), best_x and best_y are means over units of their best partner, which may "
    .. "serve many. procrustes: the distance of probe.procrustes where Q is a permutation.\n"
    .. nets .. "\n"
    .. "Reading it: value far below best_x is units that share a partner. Units that do not vary have correlation "
    .. "0. Misleads: with many units and few examples chance matches well; the value of independent features tells "
    .. "how much. Costs an assignment of the smaller width, cubic.",
    made .. "local p = tensor.randperm(4, 1)\nlocal r = probe.matched_correlation(X, X:index_select(2, p))\n"
    .. "print(r.value > 0.9999, r.procrustes < 1e-5)\n-- > true\ttrue", measure("matched_correlation", {}, {}))

  define("probe.relative", "probe.relative(X, Y, {anchors = 300, seed = 0, neighbours = 10}) -> record",
    "Do two spaces lay the same examples out alike? Relative representations (Moschella et al. 2023, "
    .. "arXiv:2209.15430): examples as their cosines to a few anchors, which rotations and scales of a space leave "
    .. "alone. value: the mean cosine of an example's two representations; overlap: the share of its nearest "
    .. "neighbours that both have; x and y: the representations, [n, anchors].\n"
    .. "  anchors: how many, drawn by the seed, or a list of positions\n"
    .. "Misleads: where all cosines are positive (behind a relu) value is high for anything; centre the features, or "
    .. "read overlap. Costs n² anchors.",
    made .. "local r = probe.relative(X, 2 * X:matmul(Q), { anchors = 8 })\nprint(r.value > 0.9999, r.overlap)\n-- > "
      .. "true\t1.0",
    told(relative))
end
