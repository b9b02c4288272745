-- SPDX-License-Identifier: Apache-2.0
-- What data say about the features that a symmetry may move: where in a network they are seen (sites), and their
-- first and second moments there, for one network or for two at once.
--
-- A site is found from the layout, not from an architecture. Features come before a matrix that consumes their class
-- ("post": behind the activation, and before poolings, which only gather places), or out of a part that produces
-- it ("pre": behind a norm that follows at once). Along the axis that moves, the factors that carry a class are the
-- features; everything else (examples, tokens, places of an image, fixed factors of the axis) is a sample.
--
-- Moments are population moments. From every feature its mean over some examples is taken first, so that nothing
-- cancels; what is left is summed and multiplied in the dtype of the network, batch by batch, by slabs of at most 4096
-- samples, and the sums of batches are made in f64. In f32 covariances are within 1e-6 of the product of deviations.
return function(core)
  local unfold = require "align.axis".unfold
  local chunks_of = require "nn.loss".chunks_of
  local layout = require "align.layout"
  local net_of = require "nn.net"
  local over = require "probe.over"(core)
  local features = {}

  -- ---- data ----

  -- How many batches, at most o.examples examples in all, and k -> batch.
  local function pieces(what, data, o)
    local size, most = o.batch or 256, o.examples or math.huge
    for name, v in pairs { batch = size, examples = o.examples or 1 } do
      if math.type(v) ~= "integer" or v < 1 then
        error(("%s: %s is a whole number, at least 1, got %s"):format(what, name, tostring(v)), 0)
      end
    end
    if type(data) ~= "table" or core.kind(data.x) ~= "tensor" then
      error(("%s: expected data: a data set, a batch or { x =, y = }, got %s"):format(what, core.kind(data)), 0)
    end
    local count, chunk = chunks_of(data, size)
    if most < count * size then count = (most + size - 1) // size end
    return count, function(k)
      local b, left = chunk(k), most - (k - 1) * size
      if b.x.shape[1] > left then
        for name, t in pairs(b) do b[name] = t[{ { 1, left } }] end
      end
      b.y = nil
      return b
    end
  end

  -- each(batch) over the data, at most o.examples of them.
  local function batches(what, data, o, each)
    local count, piece = pieces(what, data, o)
    for k = 1, count do each(piece(k)) end
  end
  features.batches = batches

  -- The first example, for tracing.
  function features.first(what, data)
    local one
    batches(what, data, { batch = 1, examples = 1 }, function(b) one = b end)
    return one
  end

  -- The layout of a network; one that does not say what it takes is traced with the first example. o: pin, free, data.
  function features.layout(what, net, theta, o)
    if not net_of.is(net) then error(("%s: expected a network, got %s"):format(what, core.kind(net)), 0) end
    local x = not net.input and o.data ~= nil and features.first(what, o.data).x or nil
    return layout.of(net, { pin = o.pin, free = o.free, x = x })
  end

  features.opened = over.whole

  -- ---- where values come from ----

  -- The run of one example as what parts saw: events { n, path, x, y } in order, and the first event that made a
  -- value. A part that passes its input on made nothing.
  function features.trace(net, theta, batch)
    local events, maker = {}, {}
    net_of.run(net, theta, batch, { mode = "eval", watch = function(n, path, x, y)
      local e = { net = n, path = path, x = x, y = y }
      events[#events + 1] = e
      if not rawequal(x, y) and not maker[y] then maker[y] = e end
    end })
    return events, maker
  end

  local function bare(n)
    local any = false
    net_of.walk(n, function(part) any = any or #part.weights + #part.buffers > 0 end)
    return not any
  end

  local function same_shape(a, b)
    local s, t = a.shape, b.shape
    if #s ~= #t then return false end
    for k = 1, #s do
      if s[k] ~= t[k] then return false end
    end
    return true
  end

  -- What the tensors of each part do with the classes: path -> { [class] = { takes =, gives =, matrix = } }. matrix:
  -- not in vectors alone, which is how norms carry a class.
  local function carried(net, plan)
    local by_path = {}
    net_of.walk(net, function(n, path, at)
      local own = by_path[path] or {}
      by_path[path] = own
      for _, spec in ipairs(n.weights) do
        local t = plan.tensors[at .. spec.name]
        for _, segments in ipairs(t and t.axes or {}) do
          for _, s in ipairs(segments) do
            for _, f in ipairs(s) do
              if f.class then
                local c = own[f.class] or {}
                own[f.class] = c
                local dual = f.dual
                if dual == nil then dual = s.dual end
                c[dual and "takes" or "gives"] = true
                c.matrix = c.matrix or #t.shape > 1
              end
            end
          end
        end
      end
    end)
    return by_path
  end
  features.carried = carried

  -- each(axis, segment, list of { class =, factor = }) for the segments of a site that carry a class.
  local function each_segment(site, each)
    for axis, segments in ipairs(site and site.axes or {}) do
      for _, s in ipairs(segments) do
        local list = {}
        for k, f in ipairs(s) do
          if f.class then list[#list + 1] = { class = f.class, factor = k, size = f.size } end
        end
        if #list > 0 then each(axis, s, list) end
      end
    end
  end

  local function source_of(path, side, axis, rank, segment, classes)
    local size = 1
    for _, c in ipairs(classes) do size = size * c.size end
    return { path = path, side = side, axis = axis, rank = rank, segment = segment, classes = classes, size = size }
  end

  -- The place before poolings and flattenings that a value went through: parts without tensors that change the shape.
  local function before_gathering(plan, maker, e)
    local x, found = e.x, nil
    while true do
      local by = maker[x]
      local site = by and bare(by.net) and not same_shape(by.x, by.y) and plan.sites[by.path]
      if not site or not site.input then return x, found end
      local any = false
      each_segment(site.input, function() any = true end)
      if not any then return x, found end
      x, found = by.x, by
    end
  end

  -- The sites where classes are seen, each once. how: "post" or "pre".
  function features.sources(net, plan, events, maker, how)
    local of, list, seen = carried(net, plan), {}, {}
    local function add(value, path, side, site, wanted)
      each_segment(site, function(axis, segment, classes)
        local any = false
        for _, c in ipairs(classes) do any = any or wanted(c.class) end
        local id = axis .. " " .. segment.offset
        seen[value] = seen[value] or {}
        if any and not seen[value][id] then
          seen[value][id] = true
          list[#list + 1] = source_of(path, side, axis, #value.shape, segment, classes)
        end
      end)
    end
    for i, e in ipairs(events) do
      local own, site = of[e.path] or {}, plan.sites[e.path] or {}
      if how == "post" then
        local function takes(c) return own[c] and own[c].takes end
        local reads = false
        each_segment(site.input, function(_, _, classes)
          for _, c in ipairs(classes) do reads = reads or takes(c.class) end
        end)
        if reads then
          local value, by = before_gathering(plan, maker, e)
          if by then
            add(value, by.path, "input", plan.sites[by.path].input, function() return true end)
          else
            add(value, e.path, "input", site.input, takes)
          end
        end
      else
        local function gives(c) return own[c] and own[c].matrix end
        local makes = false
        each_segment(site.output, function(_, _, classes)
          for _, c in ipairs(classes) do makes = makes or gives(c.class) end
        end)
        if makes and maker[e.y] == e then
          local last = e
          for k = i + 1, #events do -- a norm over vectors that reads exactly this
            local f = events[k]
            local norm = next(of[f.path] or {}) and rawequal(f.x, last.y) and maker[f.y] == f and same_shape(f.x, f.y)
            for _, c in pairs(norm and of[f.path] or {}) do norm = norm and not c.matrix end
            if norm then last = f end
          end
          local out = plan.sites[last.path].output
          if last == e then add(e.y, e.path, "output", site.output, gives)
          else add(last.y, last.path, "output", out, function() return true end) end
        end
      end
    end
    return list
  end

  -- ---- moments ----

  -- The features of a source as rows [samples, features].
  local function rows_of(source, t)
    if #t.shape ~= source.rank then
      net_of.fail("align: %s sees %d dimensions where its first example had %d", source.path, #t.shape, source.rank)
    end
    local own = {}
    for k, f in ipairs(source.segment) do own[#own + 1] = f.class and k or nil end
    return unfold(t, source.axis, source.segment, own)
  end

  -- each(k, rows) whenever a network shows what source k sees, which may be several times.
  local function see(net, theta, batch, sources, each)
    local wanted, seen = {}, {}
    for k, s in ipairs(sources) do
      local at = wanted[s.path] or {}
      wanted[s.path] = at
      at[#at + 1] = k
    end
    net_of.run(net, theta, batch, { mode = "eval", watch = function(_, path, x, y)
      for _, k in ipairs(wanted[path] or {}) do
        seen[k] = true
        each(k, rows_of(sources[k], sources[k].side == "input" and x or y))
      end
    end })
    for k, s in ipairs(sources) do
      if not seen[k] then net_of.fail("align: the part %s was not run", s.path) end
    end
  end

  local PIECE, PIECES = 8, 8

  -- What the features of a network are about: their means over a few examples all over the data, for each source, in
  -- the dtype of the features, so that a constant is met exactly. Also samples an example, for each source.
  local function middles(what, member, sources, data, o)
    local count, piece = pieces(what, data, { batch = PIECE, examples = o.examples })
    local taken, examples, middle, samples = math.min(count, PIECES), 0, {}, {}
    for i = 0, taken - 1 do
      local b = piece(1 + i * count // taken)
      examples = examples + b.x.shape[1]
      see(member.net, member.theta, b, sources, function(k, rows)
        local one = { dtype = o.precise and "f64" or rows.dtype, n = rows.shape[1], sum = rows:to "f64":sum(1) }
        local m = middle[k] or { n = 0, sum = 0 }
        middle[k] = { dtype = one.dtype, n = m.n + one.n, sum = m.sum + one.sum }
      end)
    end
    for k, m in ipairs(middle) do middle[k], samples[k] = (m.sum / m.n):to(m.dtype), m.n // examples end
    return middle, samples
  end

  local SLAB = 4096

  -- x' y for rows x and y, of which no more than SLAB are summed in the dtype that they have.
  local function product(x, y)
    local n, slabs = x.shape[1], x.shape[1] // SLAB
    if n <= SLAB then return x:t():matmul(y) end
    local function cut(t) return t[{ { 1, slabs * SLAB } }]:reshape { slabs, SLAB, t.shape[2] } end
    local sum = cut(x):transpose(2, 3):matmul(cut(y)):sum(1)
    return slabs * SLAB == n and sum or sum + product(x[{ { slabs * SLAB + 1, n } }], y[{ { slabs * SLAB + 1, n } }])
  end

  local function each_product(x, y) return (x * y):sum(1) end
  local function outer(a, b) return a:unsqueeze(2) * b:unsqueeze(1) end

  -- One batch through all members: thetas, batch, middles and sums -> sums with the batch. The second network comes
  -- when the first has shown all, so that only one of them is kept. Made for one walk over the data: what is compiled
  -- keeps its memory as long as it lives.
  local function step_of(members, how)
    return compile(function(thetas, batch, middle, sums)
      local first, out = {}, {}
      for k, s in ipairs(sums) do
        out[k] = { sum = { s.sum[1], s.sum[2] }, own = { s.own[1], s.own[2] }, cross = s.cross }
      end
      for i, m in ipairs(members) do
        local runs = {}
        see(m.net, thetas[i], batch, m.sources, function(k, rows)
          local s, x = out[k], (how.precise and rows:to "f64" or rows) - middle[i][k]
          s.sum[i], s.own[i] = s.sum[i] + x:sum(1), s.own[i] + how.own(x, x)
          runs[k] = (runs[k] or 0) + 1
          if i == 1 then
            first[k] = first[k] or {}
            first[k][runs[k]] = x
          elseif how.cross then
            s.cross = s.cross + how.cross(first[k][runs[k]], x)
          end
        end)
      end
      return out
    end, { donate = { 4 } })
  end

  -- How many examples a batch has where nobody says: what is seen most of should stay in the cache.
  local function fitting(sources, samples)
    local most = 1
    for k, s in ipairs(sources) do most = math.max(most, s.size * samples[k]) end
    return math.max(16, math.min(1024, (1 << 20) // most // 16 * 16))
  end

  local function zeros(...) return tensor.zeros({ ... }, { dtype = "f64" }) end

  -- members: { { net =, theta = table of tensors, sources = (its own, where widths differ) }, … }, one or two.
  -- o: batch, examples, own = "full", cross = "full" or "each", precise = all in f64. For each source { source =, n =,
  -- mean = { a, b }, own = { a, b } (covariances, or variances), cross = }.
  function features.moments(what, members, sources, data, o)
    local full = { own = o.own == "full", cross = #members > 1 and (o.cross or "full") == "full" }
    local how = { precise = o.precise, own = full.own and product or each_product,
      cross = #members > 1 and (full.cross and product or each_product) or nil }
    local thetas, middle, samples, sums, own = {}, {}, {}, {}, {}
    for i, m in ipairs(members) do
      own[i], thetas[i] = { net = m.net, theta = m.theta, sources = m.sources or sources }, m.theta
      middle[i], samples[i] = middles(what, own[i], own[i].sources, data, o)
    end
    for k, source in ipairs(sources) do
      local s = { sum = {}, own = {} }
      for i, m in ipairs(own) do
        local size = m.sources[k].size
        s.sum[i], s.own[i] = zeros(size), full.own and zeros(size, size) or zeros(size)
      end
      if own[2] then
        if samples[1][k] ~= samples[2][k] then
          net_of.fail("align: %s gives %d samples an example in one network and %d in the other", source.path,
            samples[1][k], samples[2][k])
        end
        local n, m = own[1].sources[k].size, own[2].sources[k].size
        s.cross = full.cross and zeros(n, m) or zeros(n)
      end
      sums[k] = s
    end
    local step, examples = step_of(own, how), 0
    batches(what, data, { batch = o.batch or fitting(sources, samples[1]), examples = o.examples }, function(b)
      examples = examples + b.x.shape[1]
      sums = step(thetas, b, middle, sums)
    end)
    local function covariance(sum, n, one, two)
      return sum / n - (#sum.shape == 2 and outer or tensor.mul)(one, two)
    end
    local out = {}
    for k, s in ipairs(sums) do
      local n, mean, spread, off = samples[1][k] * examples, {}, {}, {}
      for i, sum in ipairs(s.sum) do
        off[i] = sum / n
        local c = covariance(s.own[i], n, off[i], off[i])
        mean[i], spread[i] = middle[i][k] + off[i], full.own and (c + c:t()) / 2 or c:clamp(0, math.huge)
      end
      out[k] = { source = sources[k], n = n, mean = mean, own = spread,
        cross = s.cross and covariance(s.cross, n, off[1], off[2]) }
    end
    return out
  end

  return features
end
