-- SPDX-License-Identifier: Apache-2.0
-- Derivatives of single examples as the rows of one tensor: gradients of their losses, Jacobians of their outputs.
-- What is asked of them is their Gram matrix. Examples go one at a time through one compiled function.
return function(core)
  local over = require "probe.over"(core)
  local flat_of = require "probe.flat"(core)
  local operator = require "probe.operator"(core)
  local journal = require "probe.journal"(core)
  local net_of = require "nn.net"
  local examples = {}

  local runs = over.compiled(function(root)
    local r = {}
    local function outputs(parameters, rest, batch)
      return (net_of.run(root, over.joined(parameters, rest), batch, { mode = "eval" }))
    end
    r.outputs = compile(outputs)
    -- One row of the Jacobian: pick is the cotangent of the outputs.
    r.jacobian = compile(function(parameters, rest, batch, pick)
      return (vjp(function(p) return outputs(p, rest, batch) end, parameters, pick))
    end)
    return r
  end)

  -- net, theta as tensors; the space of the parameters that count.
  local function opened(what, net, theta, only)
    local parameters, rest = over.opened(what, net, theta)
    local space
    if only ~= nil then
      if core.kind(theta) ~= "model" then error(what .. ": only needs a model, not a table of tensors", 0) end
      local chosen = {}
      for _, name in ipairs(theta:only(only):names()) do
        chosen[name], parameters[name], rest[name] = parameters[name], nil, nil
      end
      for name, t in pairs(parameters) do rest[name] = t end
      parameters = chosen
      if next(parameters) == nil then error(what .. ": there are no floating parameters in only", 0) end
    end
    space = flat_of(what, parameters)
    return parameters, rest, space
  end

  -- The rows J of the Jacobian of the outputs, [examples * outputs, n], row = example * outputs + output; with sum,
  -- added over the outputs, [examples, n]. o: only, sum, draw, loop (of a journal).
  function examples.jacobian(what, net, theta, data, o)
    local parameters, rest, space = opened(what, net, theta, o.only)
    local run, count = runs(net), 0
    local wide, j, at = nil, nil, 0
    local n = over.chunks(what, data, 1 << 30, function() end)
    over.chunks(what, data, 1, function(batch, first)
      local b = { x = batch.x }
      if not j then
        wide = run.outputs(parameters, rest, b):numel()
        count = o.sum and 1 or wide
        operator.fits(what, space.n, space.dtype, n * count, 4, "rows (examples times outputs)")
        j = tensor.zeros({ n * count, space.n }, { dtype = space.dtype })
        at = journal.restored(o.loop, j)
      end
      if first * count <= at then return end
      local shape = run.outputs(parameters, rest, b).shape
      for k = 1, count do
        local pick
        if o.sum then
          pick = tensor.ones(shape, { dtype = space.dtype })
        else
          pick = tensor.eye(wide):to(space.dtype)[k]:reshape(shape)
        end
        at = at + 1
        j[at]:copy_(space.pack(run.jacobian(parameters, rest, b, pick)))
      end
      o.draw(at)
      o.loop.keep(function() return { done = at, rows = j[{ { 1, at }, {} }] } end)
    end)
    return j, { n = n, outputs = wide, parameters = space.n }
  end

  -- Gradients of the loss f over parts of m examples each, [parts, n].
  function examples.gradients(what, f, theta, m, only, draw, loop)
    if core.kind(f) ~= "loss" then
      error(("%s: expected net:loss(data), got %s"):format(what, core.kind(f)), 0)
    end
    if core.kind(theta) == "model" then theta = theta:load() end
    local space, o = flat_of(what, theta, f.net, only), {}
    for key, v in pairs(f.options) do o[key] = v end
    o.key, o.bn, o.batch = f.key, f.bn, m
    local n = over.chunks(what, f.data, 1 << 30, function() end)
    local count = (n + m - 1) // m
    operator.fits(what, space.n, space.dtype, count, 4, "examples / m")
    local g, at, labels = tensor.zeros({ count, space.n }, { dtype = space.dtype }), 0, {}
    local done = journal.restored(loop, g)
    over.chunks(what, f.data, m, function(batch)
      at = at + 1
      if m == 1 and batch.y ~= nil and batch.y:numel() == 1 and not batch.y.dtype:find "f" then
        labels[at] = batch.y:reshape({}):item()
      end
      if at <= done then return end
      g[at]:copy_(space.pack(f.net:loss({ x = batch.x, y = batch.y }, o):grad(theta)))
      draw(at)
      loop.keep(function() return { done = at, rows = g[{ { 1, at }, {} }] } end)
    end)
    return g, { n = n, parts = count, parameters = space.n, labels = #labels == count and labels or nil }
  end

  -- g g' in f64: sums go over all columns, in blocks of them, so that f32 rows need no second copy.
  function examples.gram(g)
    local rows, n = table.unpack(g.shape)
    local out = tensor.zeros({ rows, rows }, { dtype = "f64" })
    for at = 1, n, 16384 do
      local part = g[{ {}, { at, math.min(at + 16383, n) } }]:to "f64"
      out = out + part:matmul(part:t())
    end
    return out
  end

  return examples
end
