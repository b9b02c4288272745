-- SPDX-License-Identifier: Apache-2.0
-- Accuracy, likelihood, calibration. A metric is a value that is called with theta and gives a number; it
-- knows its network and data, so `cache` can tell its answers apart.
return function(define, check, core)
  local told = require "nn.told"
  local loss = require "nn.loss"
  local net_of = require "nn.net"
  local bins = 15

  -- ---- one pass ----

  local forward = setmetatable({}, { __mode = "k" }) -- net -> compiled

  local function outputs_of(net)
    if not forward[net] then
      forward[net] = compile(function(theta, batch) return (net(theta, batch, { mode = "eval" })) end)
    end
    return forward[net]
  end

  -- All tensors of theta, by name.
  local function tensors_of(what, theta)
    local kind = core.kind(theta)
    local out = {}
    if net_of.list(theta) then -- the members of an ensemble
      for k, one in ipairs(theta) do out[k] = tensors_of(what, one) end
      return out
    end
    if kind == "table" then return theta end
    if kind ~= "model" then error(("%s: expected a model or a table of tensors, got %s"):format(what, kind), 3) end
    local m = theta:load()
    for _, name in ipairs(m:names()) do out[name] = m:tensor(name) end
    return out
  end

  -- Rows of logits and their labels, without those whose label is ignored; nil where none is left.
  local function classes(what, z, y, ignore)
    if y == nil then error(what .. ": the data have no labels", 4) end
    if y.dtype:find "f" then error(what .. ": the labels are class numbers (integers from 0), not " .. y.dtype, 4) end
    local shape = z.shape
    local c, n = shape[#shape], 1
    for i = 1, #shape - 1 do n = n * shape[i] end
    if y:numel() ~= n then
      error(("%s: %d labels for %d rows of the network's output"):format(what, y:numel(), n), 4)
    end
    z, y = z:reshape { n, c }, y:reshape { n }
    local used = y:ne(ignore)
    local count = used:sum() // 1 | 0
    if count == 0 then return nil end
    if count < n then
      local at = tensor.range(n):masked_select(used)
      z, y, n = z:index_select(1, at), y:index_select(1, at), count
    end
    local least, most = y:min(), y:max()
    if least < 0 or most >= c then
      error(("%s: the network has %d outputs, but the labels go from %d to %d"):format(what, c, least, most), 4)
    end
    return z, y, n, c
  end

  -- Adds the sums of a chunk: rows, right ones, -log p, squared errors, counts by bin, pairs of classes.
  local function add(sums, wants, z, y, n, c)
    sums.n, sums.classes = sums.n + n, c
    local predicted = z:argmax(-1)
    local right = predicted:eq(y + 1)
    sums.right = sums.right + right:sum()
    if wants.likelihood then
      local wide = z:to "f64"
      local nll = wide:cross_entropy(y, { reduction = "none" })
      sums.nll = sums.nll + nll:sum()
      if wants.probabilities then
        local p = wide:softmax(-1)
        sums.brier = sums.brier + (p * p):sum() - 2 * (-nll):exp():sum() + n
        local confidence, is_right = p:max(-1):totable(), right:totable()
        for i, v in ipairs(confidence) do
          local b = math.max(1, math.min(bins, math.ceil(v * bins)))
          local bin = sums.bins[b]
          bin[1], bin[2], bin[3] = bin[1] + 1, bin[2] + v, bin[3] + (is_right[i] and 1 or 0)
        end
      end
    end
    if wants.confusion then
      local at, ys = predicted:totable(), y:totable()
      for i, label in ipairs(ys) do
        local key = label * c + at[i]
        sums.pairs[key] = (sums.pairs[key] or 0) + 1
      end
    end
  end

  local function measure(metric, theta, wants)
    local what, net, data = "eval." .. metric.kind, metric.net, metric.data
    local run, all = outputs_of(net), tensors_of(what, theta)
    local sums = { n = 0, right = 0, nll = 0, brier = 0, bins = {}, pairs = {} }
    for b = 1, bins do sums.bins[b] = { 0, 0, 0 } end
    local count, chunk = loss.chunks_of(data, metric.size)
    local root = net_of.is(net) and net or {}
    for k = 1, count do
      local batch = chunk(k)
      local z, y = loss.scored(root, run(all, batch), batch)
      local rows, labels, n, c = classes(what, z, y, metric.ignore)
      if rows then add(sums, wants, rows, labels, n, c) end
    end
    if sums.n == 0 then error(what .. ": no row is scored: all labels are ignored", 3) end
    return sums
  end

  local function ece_of(s)
    local sum = 0
    for _, b in ipairs(s.bins) do sum = sum + math.abs(b[3] - b[2]) end
    return sum / s.n
  end

  local function confusion_of(s)
    local rows = {}
    for i = 1, s.classes do
      rows[i] = {}
      for j = 1, s.classes do rows[i][j] = s.pairs[(i - 1) * s.classes + j] or 0 end
    end
    return tensor(rows, { dtype = "i64" })
  end

  -- ---- metrics ----

  local kinds = {
    accuracy = { {}, function(s) return s.right / s.n end },
    nll = { { likelihood = true }, function(s) return s.nll / s.n end },
    perplexity = { { likelihood = true }, function(s) return math.exp(s.nll / s.n) end },
    brier = { { likelihood = true, probabilities = true }, function(s) return s.brier / s.n end },
    ece = { { likelihood = true, probabilities = true }, ece_of },
    confusion = { { confusion = true }, confusion_of },
    report = { { likelihood = true, probabilities = true, confusion = true }, function(s)
      return { n = s.n, accuracy = s.right / s.n, error = 1 - s.right / s.n, nll = s.nll / s.n,
        perplexity = math.exp(s.nll / s.n), brier = s.brier / s.n, ece = ece_of(s), confusion = confusion_of(s) }
    end },
  }

  local Metric = { __name = "metric", __metatable = { __call = true } }
  Metric.__index = function(self, key)
    if key ~= "key" then return nil end
    local data = self.data
    local contents = type(data.digest) == "function" and data:digest()
      or core.fingerprint(data.x) .. (data.y and core.fingerprint(data.y) or "")
    if not net_of.is(self.net) then return nil end
    local kind = self.ignore == loss.ignored and self.kind or self.kind .. " " .. self.ignore
    return core.text_hash(kind .. "\n" .. self.net:summary { levels = 99 } .. "\n" .. contents)
  end
  Metric.__call = told(function(self, theta)
    local kind = kinds[self.kind]
    return kind[2](measure(self, theta, kind[1]))
  end)
  Metric.__tostring = function(self) return ("eval.%s over %d examples"):format(self.kind, self.data.x.shape[1]) end

  local function metric(kind)
    local what = "eval." .. kind
    return function(net, data, o)
      check(what, o, { "batch", "ignore_index" })
      if type(net) ~= "function" and not net_of.is(net) then
        error(("%s: expected a network, got %s"):format(what, core.kind(net)), 2)
      end
      if type(data) ~= "table" or core.kind(data.x) ~= "tensor" then
        error(("%s: expected a data set, a batch or { x =, y = }, got %s"):format(what, core.kind(data)), 2)
      end
      local size = o and o.batch or 1000
      if math.type(size) ~= "integer" or size < 1 then error(what .. ": batch is a whole number, at least 1", 2) end
      local ignore = o and o.ignore_index or loss.ignored
      if math.type(ignore) ~= "integer" then error(what .. ": ignore_index is a whole number", 2) end
      return setmetatable({ kind = kind, net = net, data = data, size = size, ignore = ignore }, Metric)
    end
  end

  local made = "local net = nn.mlp { 2, 3 }\n"
    .. "local d = { x = tensor { {2, 1}, {0, 3} }, y = tensor({ 0, 2 }, { dtype = \"i64\" }) }\n"
    .. "local theta = { [\"fc1.weight\"] = tensor { {1, 0}, {0, 1}, {0, 0} }, [\"fc1.bias\"] = tensor { 0, 0, 0 } }\n"

  define("eval.accuracy", "eval.accuracy(net, data, {batch = 1000, ignore_index = -100}) -> function",
    "The share of examples whose largest output is that of their label, as a function of theta (a model in memory or "
    .. "in files, or a table of tensors). data: a data set, a batch or {x =, y =} with class numbers from 0. The "
    .. "network is run on `batch` examples at a time, in evaluation mode; networks that predict the next token are "
    .. "scored on it. Rows whose label is ignore_index do not count. The same for all functions of eval.",
    made .. "print(eval.accuracy(net, d)(theta))\n-- > 0.5", metric "accuracy")
  define("eval.nll", "eval.nll(net, data, {batch = 1000, ignore_index = -100}) -> function",
    "The mean of -log p(label), the cross entropy, in f64, as a function of theta.",
    made .. "print((\"%.4f\"):format(eval.nll(net, d)(theta)))\n-- > 1.7513", metric "nll")
  define("eval.perplexity", "eval.perplexity(net, data, {batch = 1000, ignore_index = -100}) -> function",
    "exp of the mean of -log p(label), as a function of theta.",
    made .. "print(eval.perplexity(net, d)(theta) == math.exp(eval.nll(net, d)(theta)))\n-- > true",
    metric "perplexity")
  define("eval.brier", "eval.brier(net, data, {batch = 1000, ignore_index = -100}) -> function",
    "Brier's score (1950): the mean over examples of the squared distance between the probabilities and the label as "
    .. "a unit vector; 0 to 2, less is better.",
    made .. "print(eval.brier(net, d)(theta) > 0.5)\n-- > true", metric "brier")
  define("eval.ece", "eval.ece(net, data, {batch = 1000, ignore_index = -100}) -> function",
    "The expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599): examples fall into 15 "
    .. "bins of equal width by the largest probability, ((b - 1)/15, b/15]; the differences of accuracy and mean "
    .. "confidence of the bins, weighted by their sizes.",
    made .. "print(eval.ece(net, d)(theta) < 1)\n-- > true", metric "ece")
  define("eval.confusion", "eval.confusion(net, data, {batch = 1000, ignore_index = -100}) -> function",
    "How often each class (row) was taken for each class (column), as an i64 tensor.",
    made .. "print(eval.confusion(net, d)(theta))\n-- > i64[3, 3]\n-- > [[1, 0, 0],\n-- >  [0, 0, 0],\n-- >  [0, "
      .. "1, 0]]",
    metric "confusion")
  define("eval.report", "eval.report(net, data, {batch = 1000, ignore_index = -100}) -> function",
    "All of these from one pass: {n, accuracy, error, nll, perplexity, brier, ece, confusion}.",
    made .. "local r = eval.report(net, d)(theta)\nprint(r.n, r.accuracy, r.error)\n-- > 2\t0.5\t0.5", metric "report")
end
