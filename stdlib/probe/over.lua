-- SPDX-License-Identifier: Apache-2.0
-- What probes that go over data share: theta as tensors to differentiate by and the rest, data in chunks, scored
-- logits, and results in the form of theta.
return function(core)
  local loss = require "nn.loss"
  local net_of = require "nn.net"
  local over = {}

  local floating = require "floating"
  local half = { f16 = true, bf16 = true }

  -- The net's floating parameters in an arithmetic dtype, what else it reads, and a function that puts a table of
  -- tensors into the form of theta, as a vector.
  function over.opened(what, net, theta)
    if not net_of.is(net) then error(("%s: expected a network, got %s"):format(what, core.kind(net)), 3) end
    local kind, all, order = core.kind(theta), {}, nil
    if kind == "model" then
      theta = theta:load()
      order = theta:names()
      for _, name in ipairs(order) do all[name] = theta:tensor(name) end
    elseif kind == "table" then
      for name, t in pairs(theta) do all[name] = t end
    else
      error(("%s: expected a model or a table of tensors, got %s"):format(what, kind), 3)
    end
    local parameters, rest, buffers = {}, {}, {}
    for _, p in ipairs(net:params()) do
      local t = all[p.name]
      if t == nil then error(("%s: the parameters have no %s"):format(what, p.name), 3) end
      t = half[t.dtype] and t:to "f32" or t
      if p.buffer or not floating[t.dtype] then
        rest[p.name] = t
        buffers[#buffers + 1] = floating[t.dtype] and p.name or nil
      else
        parameters[p.name] = t
      end
    end
    local function as_given(values)
      if not order then return values end
      local list = {}
      for _, name in ipairs(order) do list[#list + 1] = values[name] and { name, values[name] } or nil end
      return model.new(list, { mass = 0 })
    end
    -- merge.fisher wants every floating tensor: buffers count for nothing.
    local function with_buffers(values)
      for _, name in ipairs(buffers) do values[name] = tensor.zeros_like(rest[name]) end
      return values
    end
    return parameters, rest, as_given, with_buffers
  end

  -- One table of both.
  function over.joined(parameters, rest)
    local all = {}
    for name, t in pairs(rest) do all[name] = t end
    for name, t in pairs(parameters) do all[name] = t end
    return all
  end

  -- A model, or a table of tensors, as one table in an arithmetic dtype.
  function over.whole(what, net, theta)
    local parameters, rest = over.opened(what, net, theta)
    return over.joined(parameters, rest)
  end

  -- The logits that are scored, [n, …, classes], and what they are scored on (nil where unlabelled).
  function over.scored(root, theta, batch)
    local y = (net_of.run(root, theta, batch, { mode = "eval" }))
    if batch.y == nil and root.predicts ~= "next" then return y end
    return loss.scored(root, y, batch)
  end

  -- each(batch, first example) over the data, `size` examples at a time; returns how many there are.
  function over.chunks(what, data, size, each)
    if type(data) ~= "table" or core.kind(data.x) ~= "tensor" then
      error(("%s: expected a data set, a batch or { x =, y = }, got %s"):format(what, core.kind(data)), 3)
    end
    if math.type(size) ~= "integer" or size < 1 then
      error(("%s: batch is a whole number, at least 1"):format(what), 3)
    end
    local count, chunk = loss.chunks_of(data, size)
    local n = 0
    for k = 1, count do
      local b = chunk(k)
      each(b, n + 1)
      n = n + b.x.shape[1]
    end
    return n
  end

  -- each(sums, batch, first example) over the data, as a loop of a journal: sums is what there is so far, with `done`,
  -- the number of examples in it. Returns sums, and how many examples there are.
  function over.gathered(what, data, size, loop, sums, each)
    sums = loop.state or sums
    sums.done = sums.done or 0
    local n = over.chunks(what, data, size, function(b, first)
      if first <= sums.done then return end
      each(sums, b, first)
      sums.done = first + b.x.shape[1] - 1
      loop.keep(function() return sums end)
    end)
    return sums, n
  end

  -- a + b for flat tables; a may be nil.
  function over.sum(a, b)
    if not a then return b end
    local out = {}
    for name, t in pairs(b) do out[name] = a[name] + t end
    return out
  end

  function over.scale(t, factor)
    local out = {}
    for name, v in pairs(t) do out[name] = v * factor end
    return out
  end

  -- One table of compiled functions for each network.
  function over.compiled(make)
    local runs = setmetatable({}, { __mode = "k" })
    return function(net)
      if not runs[net] then runs[net] = make(net) end
      return runs[net]
    end
  end

  -- What the weight of a linear map or of a convolution (of one group) meets, as rows: [rows, in], or [rows, in h w] in
  -- the order of a convolution's weight.
  function over.rows(n, x)
    local shape = x.shape
    if n.kind == "conv2d" then
      local w = n.weights[1].shape
      local size, how = w[3] * w[4], {}
      for k, v in pairs(n.how) do how[k] = v end
      how.groups = w[2]
      local one = tensor.eye(size):to(x.dtype):reshape { 1, size, size }
      local kernels = one:expand { w[2], size, size }:reshape { w[2] * size, 1, w[3], w[4] }
      x = x:conv2d(kernels, how)
      shape = x.shape
    end
    local wide, count = shape[#shape], 1
    for k = 1, #shape - 1 do count = count * shape[k] end
    return x:reshape { count, wide }, count
  end

  return over
end
