-- SPDX-License-Identifier: Apache-2.0
-- What data say about the features that a symmetry may move: where in a network they are seen (sites), and their
-- first and second moments there, for one network or for two at once.
--
-- A site is found from the layout, not from an architecture. Features come before a matrix that consumes their class
-- ("post": behind the activation, and before poolings, which only gather places), or out of a part that produces
-- it ("pre": behind a norm that follows at once). Along the axis that moves, the factors that carry a class are the
-- features; everything else (examples, tokens, places of an image, fixed factors of the axis) is a sample.
--
-- Moments are population moments in f64. Each batch is centred by its own means and joined to what came before it by
-- the rule of Chan, Golub and LeVeque (1979), so that nothing cancels and the batch does not matter.
return function(core)
  local chunks_of = require "nn.loss".chunks_of
  local layout = require "align.layout"
  local net_of = require "nn.net"
  local over = require "probe.over"(core)
  local features = {}

  -- ---- data ----

  -- each(batch) over the data, at most o.examples of them.
  local function batches(what, data, o, each)
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
    for k = 1, count do
      local left = most - (k - 1) * size
      if left <= 0 then return end
      local b = chunk(k)
      if b.x.shape[1] > left then
        for name, t in pairs(b) do b[name] = t[{ { 1, left } }] end
      end
      b.y = nil
      each(b)
    end
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
    return layout.of(net, theta, { pin = o.pin, free = o.free, x = x })
  end

  -- A model, or a table of tensors, as a table in an arithmetic dtype.
  function features.opened(what, net, theta)
    local parameters, rest = over.opened(what, net, theta)
    return over.joined(parameters, rest)
  end

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
    local shape, segment = t.shape, source.segment
    if #shape ~= source.rank then
      net_of.fail("align: %s sees %d dimensions where its first example had %d", source.path, #shape, source.rank)
    end
    local before, behind, wide = 1, 1, 1
    for k = 1, source.axis - 1 do before = before * shape[k] end
    for k = source.axis + 1, #shape do behind = behind * shape[k] end
    for _, f in ipairs(segment) do wide = wide * f.size end
    local size = shape[source.axis]
    t = t:reshape { before, size, behind }
    if wide < size then t = t[{ {}, { segment.offset + 1, segment.offset + wide }, {} }] end
    if #segment == 1 and behind == 1 then return t:reshape { before, wide } end
    local dims, moving, order = { before }, {}, { 1 }
    for k, f in ipairs(segment) do
      dims[k + 1] = f.size
      if f.class then moving[#moving + 1] = k + 1 else order[#order + 1] = k + 1 end
    end
    dims[#dims + 1] = behind
    order[#order + 1] = #dims
    for _, k in ipairs(moving) do order[#order + 1] = k end
    return t:reshape(dims):permute(order):reshape { before * wide * behind // source.size, source.size }
  end

  -- What a network shows at the sources, as rows. A part that runs several times gives the rows of all its runs.
  local function seen_by(net, theta, batch, sources)
    local wanted, got = {}, {}
    for k, s in ipairs(sources) do
      local at = wanted[s.path] or {}
      wanted[s.path] = at
      at[#at + 1] = k
    end
    net_of.run(net, theta, batch, { mode = "eval", watch = function(_, path, x, y)
      for _, k in ipairs(wanted[path] or {}) do
        local rows = rows_of(sources[k], sources[k].side == "input" and x or y)
        got[k] = got[k] and tensor.cat({ got[k], rows }, 1) or rows
      end
    end })
    for k, s in ipairs(sources) do
      if not got[k] then net_of.fail("align: the part %s was not run", s.path) end
    end
    return got
  end

  local function outer(a, b) return a:unsqueeze(2) * b:unsqueeze(1) end

  -- Of rows a and b (b: nil for one network): n, mean, and sums of centred products. how.own: "full" or variances;
  -- how.cross: "full", "each" (feature with feature of the same number) or nil.
  local function sums_of(list, how)
    local s, centred = { n = list[1].shape[1], mean = {}, own = {} }, {}
    for i, rows in ipairs(list) do
      local x = rows:to "f64"
      local mean = x:mean(1)
      x = x - mean
      s.mean[i], centred[i] = mean, x
      s.own[i] = how.own == "full" and x:t():matmul(x) or (x * x):sum(1)
    end
    local x, y = centred[1], centred[2]
    if how.cross and y then
      if how.cross == "full" then s.cross = x:t():matmul(y) else s.cross = (x * y):sum(1) end
    end
    return s
  end

  -- The moments of two sets of samples together.
  local joined = compile(function(p, q, share, weight)
    local out = { mean = {}, own = {} }
    local delta = {}
    for i, mean in ipairs(p.mean) do
      local d = q.mean[i] - mean
      delta[i] = d
      out.mean[i] = mean + share * d
      out.own[i] = p.own[i] + q.own[i] + weight * (#p.own[i].shape == 2 and outer(d, d) or d * d)
    end
    if p.cross then
      local a, b = delta[1], delta[2]
      out.cross = p.cross + q.cross + weight * (#p.cross.shape == 2 and outer(a, b) or a * b)
    end
    return out
  end)

  local function join(p, q)
    if not p then return q end
    local n = p.n + q.n
    local out = joined({ mean = p.mean, own = p.own, cross = p.cross }, { mean = q.mean, own = q.own, cross = q.cross },
      q.n / n, p.n * q.n / n)
    out.n = n
    return out
  end

  -- One batch through all members: thetas, batch -> sums for each source. Made for one walk over the data: what is
  -- compiled keeps its memory as long as it lives.
  local function run_of(members, sources, how)
    local nets, own = {}, {}
    for i, m in ipairs(members) do nets[i], own[i] = m.net, m.sources or sources end
    return compile(function(thetas, batch)
      local seen, out = {}, {}
      for i, n in ipairs(nets) do seen[i] = seen_by(n, thetas[i], batch, own[i]) end
      for k, source in ipairs(sources) do
        local list = {}
        for i in ipairs(nets) do list[i] = seen[i][k] end
        if list[2] and list[1].shape[1] ~= list[2].shape[1] then
          net_of.fail("align: %s gives %d samples in one network and %d in the other", source.path, list[1].shape[1],
            list[2].shape[1])
        end
        out[k] = sums_of(list, how)
      end
      return out
    end)
  end

  -- members: { { net =, theta = table of tensors, sources = (its own, where widths differ) }, … }, one or two.
  -- o: batch, examples, own = "full", cross = "full" or "each". For each source { source =, n =, mean = { a, b },
  -- own = { a, b } (covariances, or variances), cross = }.
  function features.moments(what, members, sources, data, o)
    local how = { own = o.own == "full" and "full" or "variance", cross = #members > 1 and (o.cross or "full") or nil }
    local run, thetas, sums = run_of(members, sources, how), {}, {}
    for i, m in ipairs(members) do thetas[i] = m.theta end
    batches(what, data, o, function(b)
      for k, s in ipairs(run(thetas, b)) do sums[k] = join(sums[k], s) end
    end)
    local out = {}
    for k, s in ipairs(sums) do
      local own = {}
      for i, t in ipairs(s.own) do own[i] = t / s.n end
      out[k] = { source = sources[k], n = s.n, mean = s.mean, own = own, cross = s.cross and s.cross / s.n }
    end
    return out
  end

  return features
end
