-- SPDX-License-Identifier: Apache-2.0
-- Training in a random subspace: theta = theta_0 + P z, where only z is trained (Li et al. 2018, arXiv:1804.08838). The
-- structured P is never stored: Fastfood (Le, Sarlos, Smola 2013, arXiv:1408.3060) is blocks H G Pi H B of n rows, n
-- the power of two above the columns, with H the Walsh-Hadamard matrix, G normal, Pi a permutation, B signs: three
-- numbers for each parameter. H of n = p q is two products with the small H_p and H_q.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local record = require "probe.record"
  local runs = require "probe.runs"(core)
  local journal = require "probe.journal"(core)
  local short = record.short

  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end

  local Z, SCALE = "subspace.z", "subspace.scale"

  -- ---- projections: functions from [d] to [D] ----

  local projections = {}

  -- Normal numbers, columns of norm 1, stored whole.
  function projections.dense(total, d, seed, dtype)
    local p = tensor.normal({ total, d }, seed, { dtype = dtype })
    p = p / (p * p):sum(1, true):sqrt()
    return function(z) return p:matmul(z:reshape { d, 1 }):reshape { total } end
  end

  -- Very sparse ones (Li, Hastie, Church 2006): of D entries of a column some sqrt(D) are not 0, one in each stretch of
  -- sqrt(D) rows, so that no place is drawn twice and norms are 1.
  function projections.sparse(total, d, seed, dtype)
    local wide = math.floor(math.sqrt(total))
    local count = (total + wide - 1) // wide
    local first = tensor.arange(count):to "f64" * wide
    local room = (total - first):clamp(1, wide) -- the last stretch may be shorter
    local place = (tensor.uniform({ d, count }, seed + 1, { dtype = "f64" }) * room):floor() + first + 1
    local rows = place:to "i64":flatten()
    local values = (2 * tensor.bernoulli({ d, count }, 0.5, seed + 2, { dtype = dtype }) - 1) / math.sqrt(count)
    local nothing = tensor.zeros({ total }, { dtype = dtype })
    return function(z) return nothing:index_add(1, rows, (values * z:reshape { d, 1 }):reshape { d * count }) end
  end

  local function hadamard(n, dtype)
    local h = tensor.ones({ 1, 1 }, { dtype = dtype })
    while h.shape[1] < n do
      h = tensor.cat({ tensor.cat({ h, h }, 2), tensor.cat({ h, -h }, 2) }, 1)
    end
    return h
  end

  function projections.fastfood(total, d, seed, dtype)
    local n, p = 1, 1
    while n < d do n = 2 * n end
    while p * p < n do p = 2 * p end
    local q, blocks = n // p, (total + n - 1) // n
    local hp, hq = hadamard(p, dtype), hadamard(q, dtype)
    local function transform(x) -- rows of [blocks, n]
      x = x:reshape { blocks * p, q }:matmul(hq):reshape { blocks, p, q }
      return x:transpose(2, 3):reshape { blocks * q, p }:matmul(hp):reshape { blocks, q, p }:transpose(2, 3)
        :reshape { blocks, n }
    end
    local signs = 2 * tensor.bernoulli({ blocks, n }, 0.5, seed + 1, { dtype = dtype }) - 1
    local normal = tensor.normal({ blocks, n }, seed + 2, { dtype = dtype })
    local order = tensor.uniform({ blocks, n }, seed + 3, { dtype = dtype }):argsort(2)
    -- H G Pi H B has columns of norm sqrt(n) |G|, whatever Pi and B are: blocks share the norm 1 by their rows.
    local scaled = normal * (math.sqrt(1 / total) / (normal * normal):sum(2, true):sqrt())
    local rest = d < n and tensor.zeros({ n - d }, { dtype = dtype }) or nil
    return function(z)
      if rest then z = tensor.cat({ z, rest }, 1) end
      local x = transform(z * signs):gather(2, order) * scaled
      x = transform(x):reshape { blocks * n }
      return total < blocks * n and x[{ { 1, total } }] or x
    end
  end

  -- ---- networks on a subspace ----

  -- f(theta, x, o), the model it starts from, and the way back to a model of the network.
  local function subspace(what, net, theta, d, o)
    if not net_of.is(net) then fail(what, "expected a network, got %s", core.kind(net)) end
    if core.kind(theta) ~= "model" then fail(what, "expected a model to start from, got %s", core.kind(theta)) end
    local make = projections[o.kind or "fastfood"]
    if not make then fail(what, "kind = %q; expected \"fastfood\", \"sparse\" or \"dense\"",
      tostring(o.kind)) end
    if math.type(d) ~= "integer" or d < 1 then fail(what, "the dimension is a whole number above 0") end
    theta = theta:load()
    local parts, rest, total, dtype, layers = {}, {}, 0, "f32", 0
    for _, p in ipairs(net:params()) do
      local t = theta:tensor(p.name)
      if p.buffer or not t.dtype:find "^[bf]f?%d+$" then
        rest[#rest + 1] = { p.name, t }
      else
        if t.dtype ~= "f64" and t.dtype ~= "f32" then t = t:to "f32" end
        dtype = t.dtype == "f64" and "f64" or dtype
        layers = layers + 1
        parts[layers] = { name = p.name, t = t, first = total + 1, last = total + t:numel() }
        total = total + t:numel()
      end
    end
    local by_layer = o.layerwise or false
    if by_layer and d <= layers then
      fail(what, "layerwise takes %d of the dimensions for scales; there are %d", layers, d)
    end
    local free = by_layer and d - layers or d
    if free > total then fail(what, "%d dimensions, but the network has %d parameters", free, total) end
    local project = make(total, free, (o.seed or 0) * 1000003, dtype)

    local function parameters(z, scale, set)
      local v = project(z)
      for k, p in ipairs(parts) do
        local move = v[{ { p.first, p.last } }]:reshape(p.t.shape)
        if scale then move = move * scale[{ { k, k } }]:reshape { 1 } end
        set(p.name, p.t + move:to(p.t.dtype))
      end
    end

    local function read(m, name)
      if type(m) == "table" then return m[name] end
      return m:tensor(name)
    end

    local function f(m, x, run)
      local all = {}
      for _, r in ipairs(rest) do all[r[1]] = read(m, r[1]) end
      parameters(read(m, Z), by_layer and read(m, SCALE) or nil, function(name, t) all[name] = t end)
      return net(all, x, run)
    end

    local list = table.move(rest, 1, #rest, 1, {})
    list[#list + 1] = { Z, tensor.zeros({ free }, { dtype = dtype }) }
    if by_layer then list[#list + 1] = { SCALE, tensor.ones({ layers }, { dtype = dtype }) } end

    local function back(m)
      local values = {}
      for _, r in ipairs(rest) do values[r[1]] = m:tensor(r[1]) end
      parameters(m:tensor(Z), by_layer and m:tensor(SCALE) or nil, function(name, t) values[name] = t end)
      return core.with_values(theta, values)
    end
    return f, model.new(list), back, total
  end

  local function trained(name) return name == Z or name == SCALE end

  define("probe.subspace", "probe.subspace(net, theta, d, {kind = \"fastfood\", layerwise = false, seed = 0}) -> "
    .. "function, start, back",
    "A network in a random subspace of d dimensions around theta (Li et al. 2018, arXiv:1804.08838), to ask what can "
    .. "be learned in it: how far does training come in d directions? f(m, x) = net(theta + P z, x), z the tensor "
    .. "subspace.z of m; start has z = 0, and back(m) is the model of net. Train it by train.fit(f, data, {start = "
    .. "start, only = \"^subspace\"}). Columns of P have norm 1 over all parameters.\n"
    .. "  kind: \"fastfood\": products of Hadamard matrices, permutations, normal numbers and signs: three numbers "
    .. "a parameter, d log d work a block; \"sparse\": signs at one of sqrt(D) places in each of as many stretches "
    .. "of the D parameters, d sqrt(D) numbers (Li, Hastie, Church 2006); \"dense\": normal numbers, stored whole\n"
    .. "  layerwise: SAID (Aghajanyan et al. 2020, arXiv:2012.13255): as many of the dimensions as there are tensors "
    .. "are learned scales of each tensor's move\n"
    .. "With fastfood the last block is cut, so that norms are 1 up to its share.\n"
    .. "Cost: the projection and its transpose in each step: D d for dense, D log d for fastfood, d sqrt(D) for "
    .. "sparse. Misleads: a rate that suits the whole network is too small here; read the loss that is reached, not "
    .. "the first steps.",
    "local net = nn.mlp { 2, 8, 2 }\nlocal theta = net:init { seed = 1 }\n"
    .. "local f, start, back = probe.subspace(net, theta, 4)\n"
    .. "print(start[\"subspace.z\"].shape, (back(start) - theta):norm())\n-- > [4]\t0.0",
    told(function(net, theta, d, o)
      check("probe.subspace", o, { "kind", "layerwise", "seed" })
      local f, start, back = subspace("probe.subspace", net, theta, d, o or {})
      return f, start, back
    end))

  -- ---- intrinsic dimension ----

  local new = record.kind("intrinsic dimension", {
    text = function(r)
      local rows = {}
      for i, m in ipairs(r.mean) do
        rows[i] = { tostring(m.d), m.data, short(m.accuracy), short(m.loss), m.reached and "reached" or "" }
      end
      local found = {}
      for _, name in ipairs(r.data) do
        local d = r.dimension[name]
        found[#found + 1] = ("%s: %s"):format(name, d and tostring(d) or "above " .. r.dims[#r.dims])
      end
      return ("intrinsic dimension at %g of the whole network's performance, of %d parameters: %s\n%s"):format(r.target,
        r.numel, table.concat(found, ", "), record.columns({ "dimensions", "data", "accuracy", "loss", "" }, rows))
    end,
    rows = function(r)
      local rows = {}
      for i, row in ipairs(r.rows) do rows[i] = { row.d, row.seed, row.data, row.accuracy or "", row.loss } end
      return { "d", "seed", "data", "accuracy", "loss" }, rows
    end,
    plot = function(r, o)
      local lines, by, style = { title = "intrinsic dimension", xlabel = "dimensions", xlog = true }, {}, {}
      for _, m in ipairs(r.mean) do
        if not by[m.data] then
          by[m.data] = { m.data, {}, {} }
          lines[#lines + 1] = by[m.data]
          style[m.data] = #lines
        end
        table.insert(by[m.data][2], m.d)
        table.insert(by[m.data][3], m.accuracy or m.loss)
      end
      for _, name in ipairs(r.data) do
        lines[#lines + 1] = { label = name .. ", target", x = { r.dims[1], r.dims[#r.dims] },
          y = { r.goal[name], r.goal[name] }, dash = true, style = style[name] }
      end
      lines.ylabel = r.mean[1].accuracy and "accuracy" or "loss"
      return plot.line(record.with(lines, o))
    end,
  })

  local function list_of(what, name, v, default)
    v = v or default
    if type(v) == "number" then v = { v } end
    if type(v) ~= "table" or #v == 0 then fail(what, "%s is a list of whole numbers", name) end
    local out = table.move(v, 1, #v, 1, {})
    table.sort(out)
    return out
  end

  local function dimension(net, data, options)
    local what = "probe.intrinsic_dimension"
    check(what, options, { "dims", "kind", "layerwise", "target", "on", "seed", "seeds", "start", "train",
      "train_full", "batch", "journal" })
    expect(what, options, { start = "a model", dims = "a number or a list of numbers" })
    if not net_of.is(net) then fail(what, "expected a network, got %s", core.kind(net)) end
    local o = options or {}
    local fit = runs.options(what, data, o.train)
    local full = runs.options(what, data, o.train_full or o.train)
    local losses = runs.losses(what, net, o.on or data, o.batch, fit)
    local target, seed = o.target or 0.9, o.seed or 0
    if type(target) ~= "number" or not (target > 0 and target <= 1) then fail(what, "target is a share up to 1") end
    local start = (o.start or net:init { seed = seed }):load()
    local total = 0
    for _, p in ipairs(net:params()) do total = total + (p.buffer and 0 or start:tensor(p.name):numel()) end
    local dims = list_of(what, "dims", o.dims, { 10, 20, 50, 100, 200, 500, 1000 })
    local kept <close> = journal.open(what, o, { net, data })
    local r = { rows = {}, mean = {}, models = {}, dims = dims, target = target, numel = total, dimension = {},
      baseline = {}, goal = {}, data = {}, kind = o.kind or "fastfood" }

    local function measured(theta)
      local out = {}
      for _, l in ipairs(losses) do
        local f = l.f:report(theta)
        out[l.name] = { loss = f.loss, accuracy = f.accuracy }
      end
      return out
    end

    r.models.full = runs.fit(kept, { "full" }, net, data, runs.with(full, { seed = seed, start = start }))
    local base = kept.once({ "baseline" }, function()
      return { before = measured(start), after = measured(r.models.full) }
    end)
    for _, l in ipairs(losses) do
      local before, after = base.before[l.name], base.after[l.name]
      r.data[#r.data + 1], r.baseline[l.name] = l.name, after
      -- A share of the accuracy, or of the way that the loss went.
      r.goal[l.name] = after.accuracy and target * after.accuracy or before.loss + target * (after.loss - before.loss)
    end
    for _, d in ipairs(dims) do
      local sums = {}
      r.models[d] = {}
      for s = 1, o.seeds or 1 do
        local own = seed * 10007 + s
        local f, z, back = subspace(what, net, start, d, { kind = o.kind, layerwise = o.layerwise, seed = own })
        local theta = back(runs.fit(kept, { "model", d, s }, f, data,
          runs.with(fit, { seed = seed, start = z, only = trained })))
        r.models[d][s] = theta
        local got = kept.once({ d, s }, function() return measured(theta) end)
        for _, name in ipairs(r.data) do
          local v = got[name]
          r.rows[#r.rows + 1] = { d = d, seed = own, data = name, accuracy = v.accuracy, loss = v.loss }
          local m = sums[name] or { d = d, data = name, loss = 0, accuracy = v.accuracy and 0 }
          sums[name] = m
          m.loss = m.loss + v.loss / (o.seeds or 1)
          m.accuracy = v.accuracy and m.accuracy + v.accuracy / (o.seeds or 1)
        end
      end
      for _, name in ipairs(r.data) do
        local m = sums[name]
        if m.accuracy then m.reached = m.accuracy >= r.goal[name] else m.reached = m.loss <= r.goal[name] end
        if m.reached then r.dimension[name] = r.dimension[name] or d end
        r.mean[#r.mean + 1] = m
      end
    end
    return new(r)
  end

  define("probe.intrinsic_dimension", "probe.intrinsic_dimension(net, data, {dims = {10, 20, 50, …, 1000}, kind = "
    .. "\"fastfood\", layerwise = false, target = 0.9, on =, seed = 0, seeds = 1, start =, train = {options of "
    .. "train.fit}, train_full =, batch = 1000, journal =}) -> record",
    "In how few dimensions can a network be trained (Li et al. 2018, arXiv:1804.08838)? It is trained in random "
    .. "subspaces of each size (probe.subspace), and whole. dimension[name] is the least of dims whose accuracy is "
    .. "`target` times that of the whole network (without accuracy: whose loss fell by that share); rows: d, seed, "
    .. "data, accuracy, loss; mean over seeds, baseline, goal, models[d]. Plot accuracy over d: a jump, not a slope, "
    .. "where the task has a dimension.\n"
    .. "  dims: sizes that are tried; kind, layerwise: as in probe.subspace\n"
    .. "  seeds: projections for each; seed: of everything else\n"
    .. "  train: for the subspaces; train_full: for the whole network, where it wants another rate\n"
    .. "  start: theta_0, such as a base model; on, journal: as in probe.instability\n"
    .. "Costs a training run for each size and seed. Misleads: columns of norm 1 spread a step over all parameters, "
    .. "so subspaces want larger rates than the whole network; a run that has not converged looks like a higher "
    .. "dimension.",
    "local d = data.two_moons { n = 100, seed = 1 }\nlocal net = nn.mlp { 2, 8, 2 }\n"
    .. "local r = probe.intrinsic_dimension(net, d, { dims = { 1, 20 }, train = { epochs = 10, batch = 20, lr = 0.1 } "
    .. "})\n"
    .. "print(#r.rows, r.numel)\n-- > 2\t42", told(dimension))
end
