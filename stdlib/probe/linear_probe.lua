-- SPDX-License-Identifier: Apache-2.0
-- What can be read off a layer by a linear map: least squares on one-hot labels with a ridge, in closed form and f64.
return function(define, check, core)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local record = require "probe.record"
  local features = require "probe.features"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local what = "probe.linear_probe"
  local expect = require "expect"(core.kind)

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local function labels(d, whose)
    local y = type(d) == "table" and d.y
    if core.kind(y) ~= "tensor" or y.dtype:find "f" or y.rank ~= 1 then
      fail("the %s data have no labels (class numbers, one an example)", whose)
    end
    return y
  end

  local function one_hot(y, classes) return y:reshape { -1, 1 }:eq(tensor.arange(classes)):to "f64" end

  -- Columns with mean 0 and variance 1 over the training examples; those that do not vary count for nothing.
  local function scaler(x)
    local mean = x:mean(1, true)
    local std = ((x - mean) ^ 2):mean(1, true):sqrt()
    local scale = tensor.where(std:gt(0), 1 / tensor.where(std:gt(0), std, 1), 0)
    return function(z) return (z - mean) * scale end
  end

  -- (X'X / n + ridge) W = X'Y / n, by the smaller of the two Gram matrices.
  local function solve(x, y, ridge)
    local n, p = x.shape[1], x.shape[2]
    if p <= n then
      return (x:t():matmul(x) / n + ridge * tensor.eye(p):to "f64"):solve(x:t():matmul(y) / n)
    end
    return x:t():matmul((x:matmul(x:t()) + n * ridge * tensor.eye(n):to "f64"):solve(y))
  end

  local function accuracy(scores, y) return scores:argmax(-1):eq(y + 1):mean() end

  local function probe_of(x, y, tx, ty, o)
    x, tx = x:to "f64", tx:to "f64"
    local classes = math.max(y:max(), ty:max()) + 1
    local scaled = scaler(x)
    x, tx = scaled(x), scaled(tx)
    local target = one_hot(y, classes)
    local base = target:mean(1, true)
    local w = solve(x, target - base, o.ridge)
    return accuracy(tx:matmul(w) + base, ty), accuracy(x:matmul(w) + base, y)
  end

  local new = record.kind("linear probe", {
    text = function(r)
      local head, rows = { "layer" }, {}
      for k = 1, #r.accuracy do
        head[#head + 1] = #r.accuracy == 1 and "test" or ("test %d"):format(k)
        head[#head + 1] = #r.accuracy == 1 and "train" or ("train %d"):format(k)
      end
      for i, layer in ipairs(r.layers) do
        rows[i] = { layer }
        for k = 1, #r.accuracy do
          table.insert(rows[i], ("%.4f"):format(r.accuracy[k][i]))
          table.insert(rows[i], ("%.4f"):format(r.train_accuracy[k][i]))
        end
      end
      return ("linear probes, ridge %g; %d examples\n%s"):format(r.ridge, r.n, record.columns(head, rows))
    end,
    rows = function(r)
      local rows = {}
      for k in ipairs(r.accuracy) do
        for i, layer in ipairs(r.layers) do
          rows[#rows + 1] = { k, layer, r.accuracy[k][i], r.train_accuracy[k][i] }
        end
      end
      return { "model", "layer", "accuracy", "train_accuracy" }, rows
    end,
    plot = function(r, o)
      local lines = { title = "linear probes", xlabel = "layer", ylabel = "accuracy" }
      for k, values in ipairs(r.accuracy) do lines[k] = { ("model %d"):format(k), values } end
      return plot.line(record.with(lines, o))
    end,
  })

  local function linear_probe(net, thetas, train_data, test_data, options)
    check(what, options, { "layers", "ridge", "places", "batch", "of", "journal" })
    local o = { ridge = 1e-3 }
    for key, v in pairs(options or {}) do o[key] = v end
    if type(o.ridge) ~= "number" or o.ridge <= 0 then fail "ridge is a number above 0" end
    if core.kind(net) == "tensor" then
      expect.one(what, "y", thetas, "a tensor")
      expect.one(what, "the test features", train_data, "a tensor")
      expect.one(what, "the test labels", test_data, "a tensor")
      local test, train = probe_of(net:reshape { net.shape[1], -1 }, thetas, train_data:reshape { train_data.shape[1],
        -1 }, test_data, o)
      return new { layers = { "features" }, accuracy = { { test } }, train_accuracy = { { train } }, ridge = o.ridge,
        n = net.shape[1] }
    end
    local list = net_of.list(thetas) or { thetas }
    local layers = features.layers(what, net, o.layers)
    local opened = {}
    for k, theta in ipairs(list) do opened[k] = features.opened(what, net, theta) end
    local y, ty = labels(train_data, "training"), labels(test_data, "test")
    local r = { layers = layers, accuracy = {}, train_accuracy = {}, ridge = o.ridge, n = y.shape[1] }
    local draw <close> = progress(what, #list * #layers, "layers")
    local j <close> = journal.open(what, o, { net, opened, train_data, test_data }, draw)
    for k = 1, #list do -- one model's features at a time
      local x, tx
      r.accuracy[k], r.train_accuracy[k] = {}, {}
      for i, path in ipairs(layers) do
        local got = j.once({ k, i }, function()
          x = x or features.all(what, { net }, { opened[k] }, { layers }, train_data, o)[1]
          tx = tx or features.all(what, { net }, { opened[k] }, { layers }, test_data, o)[1]
          if x[path].shape[1] ~= y.shape[1] then fail("places = \"rows\" has no label for each row") end
          return { probe_of(x[path], y, tx[path], ty, o) }
        end)
        r.accuracy[k][i], r.train_accuracy[k][i] = got[1], got[2]
        draw((k - 1) * #layers + i)
      end
    end
    return new(r)
  end

  define(what, "probe.linear_probe(net, theta or {theta, …}, train, test, {layers =, ridge = 1e-3, places = "
    .. "\"features\", of = \"output\", batch = 1000, journal =}) or probe.linear_probe(X, y, X test, y test, "
    .. "{ridge = 1e-3}) -> record",
    "How much about the labels can be read off each layer by a linear map (Alain, Bengio 2016, arXiv:1610.01644)? "
    .. "For one model or several: a merged model whose layers are as good as its parts' and whose outputs are not "
    .. "has lost its head only. accuracy[k][i] on the test data of model k at layer i, and train_accuracy. The map "
    .. "is least squares on one-hot labels over features scaled to variance 1, in closed form, so that nothing "
    .. "depends on a seed.\n"
    .. "  ridge: added to the covariance of the scaled features\n"
    .. "  layers, places, of, journal: as in probe.cka\n"
    .. "Costs n p² + p³ a layer, p the features. Misleads: with as many features as examples the training accuracy "
    .. "is 1 for anything; a layer may hold what the network does not use.",
    "local d = data.two_moons { n = 200, seed = 1 }\nlocal net = nn.mlp { 2, 16, 2 }\n"
    .. "local r = probe.linear_probe(net, net:init { seed = 1 }, d, d, { layers = { \"act1\" } })\n"
    .. "print(#r.layers, r.accuracy[1][1] > 0.85)\n-- > 1\ttrue", told(linear_probe))
end
