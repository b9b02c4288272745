-- SPDX-License-Identifier: Apache-2.0
-- The loss of a network on data as a function of the parameters, with its gradient and its linearisation. Data are
-- taken in chunks of fixed size and order; each chunk's mean is weighted by the rows it scores, and sums are made in
-- that order, so a result does not depend on threads or memory. What is computed over a chunk is compiled once per
-- network and loss, and used for every chunk and every model after that.
local net = require "nn.net"
local nearest = require "nearest"

local module = {}
local Loss, methods = {}, {}
local Linear, linear_methods = {}, {}
module.methods, module.linear_methods = methods, linear_methods

-- ---- losses of one batch ----

-- Logits [n, t, c] of a network that predicts the next token, and the tokens they are scored on.
local function shifted(y, x)
  local t = y.shape[2]
  return y[{ {}, { 1, t - 1 } }], x[{ {}, { 2, t } }]
end

local function scored(root, y, batch)
  if batch.y ~= nil then return y, batch.y end
  if root.predicts == "next" then return shifted(y, batch.x) end
  net.fail "net:loss: the data have no labels (y)"
end

local losses = {
  cross_entropy = function(root, y, batch, o)
    local z, labels = scored(root, y, batch)
    return z:cross_entropy(labels, { label_smoothing = o.label_smoothing, ignore_index = o.ignore_index })
  end,
  mse = function(root, y, batch)
    local z, target = scored(root, y, batch)
    return z:mse_loss(target)
  end,
  bce = function(root, y, batch)
    local z, target = scored(root, y, batch)
    return z:bce_with_logits(target)
  end,
}

local function loss_function(root, o)
  local f = o.loss
  if type(f) == "function" then return function(y, batch) return f(y, batch) end end
  local known = losses[f]
  if not known then
    local near = nearest(tostring(f), losses)
    net.fail("net:loss: loss = %s; expected \"cross_entropy\", \"mse\", \"bce\" or a function(y, batch)%s",
      net.shown(f), near and ("; did you mean %q?"):format(near) or "")
  end
  return function(y, batch) return known(root, y, batch, o) end
end

local ignored = -100 -- the label of rows that do not count, as in tensor:cross_entropy

-- How many rows the mean of a chunk goes over; recorded where the batch is.
local function weight_of(root, o, batch)
  local labels = batch.y
  if labels == nil and root.predicts == "next" then labels = batch.x[{ {}, { 2, batch.x.shape[2] } }] end
  if o.loss ~= "cross_entropy" or labels == nil then return batch.x.shape[1] end
  if labels.dtype:find "f" then return labels:numel() // labels.shape[#labels.shape] end
  return tensor.ne(labels, o.ignore_index or ignored):sum()
end

-- How many predictions are right; nil where there is nothing to count.
local function correct(root, y, batch, o)
  if o.loss ~= "cross_entropy" or batch.y == nil and root.predicts ~= "next" then return nil end
  local z, labels = scored(root, y, batch)
  local best = z:argmax(-1)
  if labels.dtype:find "f" then return tensor.eq(best, labels:argmax(-1)):sum() end
  local right = tensor.eq(best, labels + 1)
  if (o.ignore_index or ignored) >= 0 then right = right:logical_and(tensor.ne(labels, o.ignore_index)) end
  return right:sum()
end

-- ---- compiled once per network and loss ----

local kernels = setmetatable({}, { __mode = "k" })

-- value(theta, batch), gradient, report, hvp(theta, batch, v), ggn: for one chunk.
local function kernels_of(root, o)
  local list = kernels[root] or {}
  kernels[root] = list
  for _, k in ipairs(list) do
    if k.loss == o.loss and k.mode == o.mode and k.label_smoothing == o.label_smoothing
      and k.ignore_index == o.ignore_index then
      return k
    end
  end
  local loss = loss_function(root, o)
  local function outputs(theta, batch, key) return (module.run(root, theta, batch, o.mode, key)) end
  local function total(theta, batch, key) return loss(outputs(theta, batch, key), batch) end
  local k = { loss = o.loss, mode = o.mode, label_smoothing = o.label_smoothing, ignore_index = o.ignore_index }
  k.value = compile(total)
  k.gradient = compile(function(theta, batch, key) return value_and_grad(total, theta, batch, key) end)
  k.report = compile(function(theta, batch, key)
    local y = outputs(theta, batch, key)
    return loss(y, batch), correct(root, y, batch, o)
  end)
  -- The products of the derivatives at theta, for linearize.
  k.times_hessian = function(theta, batch, key, v) return hvp(total, theta, v, batch, key) end
  k.times_ggn = function(theta, batch, key, v)
    local jv, y = jvp(outputs, theta, v, batch, key)
    local curved = hvp(function(z) return loss(z, batch) end, y, jv)
    return (vjp(outputs, theta, curved, batch, key))
  end
  k.again = { hessian = compile(k.times_hessian), ggn = compile(k.times_ggn) }
  list[#list + 1] = k
  return k
end

function module.run(root, theta, batch, mode, key)
  return net.run(root, theta, batch, { mode = mode, key = key })
end

-- ---- data in chunks ----

local function rows_of(data)
  if type(data) ~= "table" then
    net.fail("net:loss: expected a data set, a batch or { x =, y = }, got %s", net.kind(data))
  end
  local x = data.x
  for name, t in pairs { x = x, y = data.y } do
    if net.kind(t) ~= "tensor" or t.rank == 0 then
      net.fail("net:loss: %s of the data is a %s; expected a tensor with a row for each example", name,
        net.kind(t) == "tensor" and "single number" or net.kind(t))
    end
  end
  if x == nil then
    local parts = rawget(data, "train") and "; they come in parts: data.train, data.test"
    net.fail("net:loss: the data have no x%s", parts or "")
  end
  return x.shape[1]
end

-- Rows first … last of a batch: every tensor that has as many rows as x.
local function rows(data, n, first, last)
  local out = {}
  for name, t in pairs(data) do
    if name ~= "index" and type(t) == "userdata" and t.shape[1] == n then
      out[name] = (first > 1 or last < n) and t[{ { first, last } }] or t
    end
  end
  return out
end

-- The function k -> batch of x, y (and mask, types …), and the number of chunks.
local function chunks_of(data, size)
  local n = rows_of(data)
  if n == 0 then net.fail "net:loss: the data are empty" end
  local count = (n + size - 1) // size
  return count, function(k)
    local first, last = (k - 1) * size + 1, math.min(k * size, n)
    if type(data.batch) == "function" then
      local b = data:batch(first, last)
      return { x = b.x, y = b.y }
    end
    return rows(data, n, first, last)
  end
end

-- ---- parameters ----

-- theta in memory: a model that lies in files is read.
local function settled(f, theta)
  local of = net.kind(theta)
  if of ~= "model" and of ~= "table" then
    net.fail("net:loss: the parameters are a model, or a table of tensors by name, not a %s", of)
  end
  local first = net.structure(f.net).tensors[1]
  if of == "model" and first then
    local ok, t = pcall(theta.tensor, theta, first.name)
    if ok and t.planned and not t.recorded then theta = theta:load() end
  end
  return f.bn and eval.bn_reset(f.net, theta, f.bn) or theta
end

-- a w + b for models, and for tables of tensors.
local function plus(b, a, w)
  if type(a) ~= "table" then
    if b == nil then return w == 1 and a or a * w end
    return b + (w == 1 and a or a * w)
  end
  local out = {}
  for name, t in pairs(a) do out[name] = plus(b and b[name], t, w) end
  return out
end

-- ---- the function ----

local names = { "loss", "bn", "batch", "mode", "key", "label_smoothing", "ignore_index" }

function module.new(root, data, o)
  o = o or {}
  net.check("net:loss", o, names)
  -- A tensor, since it is an argument of what is compiled.
  local key = math.type(o.key) == "integer" and tensor({ o.key }, { dtype = "i64" }) or o.key
  local f = { net = root, bn = o.bn, key = key, data = data }
  f.options = { loss = o.loss or "cross_entropy", mode = o.mode or "eval", label_smoothing = o.label_smoothing,
    ignore_index = o.ignore_index }
  f.size = o.batch or 1000
  if math.type(f.size) ~= "integer" or f.size < 1 then
    net.fail("net:loss: batch = %s; expected a whole number above 0", net.shown(f.size))
  end
  loss_function(root, f.options)
  rows_of(data)
  return setmetatable(f, Loss)
end

-- each(batch, share of the rows) over the chunks.
local function over_chunks(f, size, each)
  local count, chunk = chunks_of(f.data, size)
  local batches, weights, total = {}, {}, 0
  for k = 1, count do
    local b = chunk(k)
    batches[k], weights[k] = count == 1 and b or nil, weight_of(f.net, f.options, b) // 1 | 0
    total = total + weights[k]
  end
  if total == 0 then net.fail "net:loss: no row is scored" end
  for k = 1, count do
    if weights[k] > 0 then each(batches[k] or chunk(k), weights[k] / total) end
  end
  return total
end

local function value(f, theta)
  theta = settled(f, theta)
  local kernel, sum = kernels_of(f.net, f.options), nil
  over_chunks(f, f.size, function(batch, share)
    local v = kernel.value(theta, batch, f.key)
    v = share == 1 and v or v * share
    sum = sum and sum + v or v
  end)
  return sum
end

function Loss.__call(f, theta) return net.guarded(value, f, theta) end

-- The reports of several models: over each chunk all of them side by side. A report is the same in any company.
local function reports(f, thetas)
  local kernel = kernels_of(f.net, f.options)
  local models, list = {}, {}
  for i, theta in ipairs(thetas) do models[i], list[i] = settled(f, theta), { loss = 0 } end
  local n = over_chunks(f, f.size, function(batch, share)
    local calls = {}
    for i, theta in ipairs(models) do calls[i] = { theta, batch, f.key, n = 3 } end
    local values, right = compile.map(kernel.report, calls)
    for i, r in ipairs(list) do
      r.loss = r.loss + share * values[i]
      r.right = right[i] and (r.right or 0) + right[i] or r.right
    end
  end)
  for i, r in ipairs(list) do
    local accuracy = r.right and r.right / n
    list[i] = { loss = r.loss, accuracy = accuracy, error = accuracy and 1 - accuracy, n = n }
  end
  return list
end

function module.reports(f, thetas) return net.guarded(reports, f, thetas) end

function methods.report(f, theta)
  return net.guarded(function()
    if theta == nil then net.fail "net:loss: the parameters are a model, or a table of tensors by name, not a nil" end
    return reports(f, { theta })[1]
  end)
end

function methods.grad(f, theta)
  return net.guarded(function()
    theta = settled(f, theta)
    local kernel = kernels_of(f.net, f.options)
    local g
    over_chunks(f, f.size, function(batch, share)
      local _, one = kernel.gradient(theta, batch, f.key)
      g = plus(g, one, share)
    end)
    return g
  end)
end

-- ---- linearised ----

function methods.linearize(f, theta, o)
  return net.guarded(function()
    o = o or {}
    net.check("linearize", o, { "chunk", "keep" })
    if o.chunk ~= nil and (math.type(o.chunk) ~= "integer" or o.chunk < 1) then
      net.fail("linearize: chunk = %s; expected a whole number above 0", net.shown(o.chunk))
    end
    local H = { f = f, size = o.chunk or f.size, keep = o.keep ~= false }
    H.theta = settled(f, theta)
    H.kept = {}
    return setmetatable(H, Linear)
  end)
end

-- One product for every chunk of the data. With keep, each chunk has a function of its own in which everything that
-- does not depend on v stays computed; without, what it needs is computed again each time.
local function product(H, kind, times, v)
  if not H.kept then net.fail "linearize: this linearisation is closed" end
  local f, theta = H.f, H.theta
  local kernel = kernels_of(f.net, f.options)
  local kept, sum = H.kept[kind], nil
  if kept then
    for _, part in ipairs(kept) do sum = plus(sum, part.run(v), part.share) end
    return sum
  end
  kept = {}
  over_chunks(f, H.size, function(batch, share)
    if H.keep then
      local run = compile(function(u) return kernel[times](theta, batch, f.key, u) end)
      kept[#kept + 1] = { run = run, share = share }
      sum = plus(sum, run(v), share)
    else
      sum = plus(sum, kernel.again[kind](theta, batch, f.key, v), share)
    end
  end)
  if H.keep then H.kept[kind] = kept end
  return sum
end

function linear_methods.hvp(H, v) return net.guarded(product, H, "hessian", "times_hessian", v) end
function linear_methods.ggn(H, v) return net.guarded(product, H, "ggn", "times_ggn", v) end

-- Value and gradient, computed together at the first question.
local function first_order(H)
  if not H.kept then net.fail "linearize: this linearisation is closed" end
  if not H.kept.gradient then
    local f, g, loss = H.f, nil, 0
    local kernel = kernels_of(f.net, f.options)
    over_chunks(f, H.size, function(batch, share)
      local v, one = kernel.gradient(H.theta, batch, f.key)
      g, loss = plus(g, one, share), loss + share * v
    end)
    H.kept.gradient, H.kept.value = g, loss
  end
  return H.kept
end

function linear_methods.grad(H) return net.guarded(function() return first_order(H).gradient end) end

function linear_methods.close(H) H.kept, H.theta = nil, nil end

-- `f.report(theta)` is told that it lacks a colon.
for class, list in pairs { [Loss] = methods, [Linear] = linear_methods } do
  for name, inner in pairs(list) do -- ??name at the prompt looks for `inner`
    list[name] = function(self, ...)
      if getmetatable(self) == class then return inner(self, ...) end
      error(("%s:%s: expected the %s, got %s (write a colon, f:%s)"):format(class.__name, name, class.__name,
        net.kind(self), name), 2)
    end
  end
end

Loss.__name, Linear.__name = "loss", "linearisation"
Loss.__index = methods
Linear.__close = function(H) linear_methods.close(H) end
Linear.__index = function(H, key)
  if key == "value" then return net.guarded(function() return first_order(H).value end) end
  return linear_methods[key]
end
Loss.__tostring = function(f)
  local loss = f.options.loss
  return ("loss of %s: %s over %d rows, %s mode"):format(f.net.kind, type(loss) == "string" and loss or "own",
    f.data.x.shape[1], f.options.mode)
end
Linear.__tostring = function(H)
  return ("linearisation of the %s%s"):format(tostring(H.f), H.kept and "" or " (closed)")
end

-- For training and evaluation, which go through data and score it in the same way.
module.loss_of, module.correct, module.chunks_of, module.scored = loss_function, correct, chunks_of, scored
module.weight_of, module.ignored = weight_of, ignored

return module
