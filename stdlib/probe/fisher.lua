-- SPDX-License-Identifier: Apache-2.0
-- Diagonal Fisher information and norms of single examples' gradients. Squares are taken for each example by itself:
-- where every row knows a closed form in one walk over the batch (vm/grad/example.h), else one example at a time.
-- Squaring the gradient of a batch instead would leave cross terms that depend on the batch's size.
return function(define, check, core)
  local told = require "nn.told"
  local over = require "probe.over"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)

  -- Of one batch, by a weight for every log p that is a constant: Σ_n (d Σ w log p / d theta)², or the norms.
  local function each_of(how, root, parameters, rest, batch, weight)
    return core["example_" .. how](function(theta)
      return (over.scored(root, over.joined(theta, rest), batch):log_softmax(-1) * weight):sum()
    end, parameters, batch)
  end

  -- Log p is weighted by sqrt(p), held fixed, times pick: a class of a row, or labels.
  local runs = over.compiled(function(root)
    local r = {}
    function r.logits(parameters, rest, batch) return (over.scored(root, over.joined(parameters, rest), batch)) end
    r.outputs = compile(r.logits)
    r.class = compile(function(parameters, rest, batch, pick)
      local p = r.logits(parameters, rest, batch):softmax(-1)
      return (each_of("squares", root, parameters, rest, batch, p:sqrt() * pick))
    end)
    r.label = compile(function(parameters, rest, batch, pick)
      return (each_of("squares", root, parameters, rest, batch, pick))
    end)
    r.norms = compile(function(parameters, rest, batch, pick)
      return (each_of("norms", root, parameters, rest, batch, pick))
    end)
    r.closed = {}
    return r
  end)

  local function rows_of(batch, first, last)
    local out = {}
    for name, t in pairs(batch) do out[name] = t[{ { first, last } }] end
    return out
  end

  -- One walk over the batch, or one for each example where there is no closed form, joined by `join`.
  local function each_example(run, kind, join, parameters, rest, batch, pick)
    if run.closed[kind] ~= false then
      local ok, all = pcall(run[kind], parameters, rest, batch, pick)
      if ok then return all end
      if not tostring(all):find "no closed form" then error(all, 0) end
      run.closed[kind] = false
    end
    local joined
    for k = 1, batch.x.shape[1] do
      local own = pick.shape[1] == 1 and pick or pick[{ { k, k } }]
      joined = join(joined, run[kind](parameters, rest, rows_of(batch, k, k), own))
    end
    return joined
  end

  local function appended(a, b) return a and tensor.cat({ a, b }, 1) or b end

  local function tensors_only(b) return { x = b.x, y = b.y } end

  -- The number of rows scored per example, and of classes.
  local function extent(z)
    local shape, rows = z.shape, 1
    for k = 2, #shape - 1 do rows = rows * shape[k] end
    return rows, shape[#shape]
  end

  local function one_hot(labels, classes, like)
    local shape = labels.shape
    shape[#shape + 1] = 1
    return labels:reshape(shape):eq(tensor.arange(classes)):to(like.dtype)
  end

  local function labels_of(what, root, b)
    if b.y ~= nil then
      if b.y.dtype:find "f" then error(what .. ": the labels are class numbers (integers from 0)", 4) end
      return b.y
    end
    if root.predicts == "next" then return b.x[{ {}, { 2, b.x.shape[2] } }] end
    error(what .. ": the data have no labels", 4)
  end

  local kinds = {}

  -- Every class of every row, weighted by its probability.
  function kinds.exact(run, _, parameters, rest, batch)
    local z = run.outputs(parameters, rest, batch)
    local rows, classes = extent(z)
    local shape, sum = z.shape, nil
    shape[1] = 1
    local picks = tensor.eye(rows * classes):to(z.dtype)
    for k = 1, rows * classes do
      sum = over.sum(sum, each_example(run, "class", over.sum, parameters, rest, batch, picks[k]:reshape(shape)))
    end
    return sum, batch.x.shape[1] * rows
  end

  -- A label for each row from the network's own distribution. Labels of one example are drawn independently and their
  -- gradients have mean zero, so the square of their sum has the mean of the sum of squares.
  function kinds.sampled(run, _, parameters, rest, batch, first, o)
    local z = run.outputs(parameters, rest, batch)
    local rows, classes = extent(z)
    local shape, n, sum = z.shape, batch.x.shape[1], nil
    shape[#shape] = 1
    local below = z:to("f64"):softmax(-1):cumsum(-1)
    for k = 1, o.samples do
      -- A number for each example that does not depend on how they are cut into batches.
      local u = {}
      for i = 1, n do
        u[i] = tensor.uniform({ 1, rows }, o.seed + (first + i) * 1000003 + k * 7919, { dtype = "f64" })
      end
      local label = below:lt(tensor.cat(u, 1):reshape(shape)):to("i64"):sum(-1):to("i64"):clamp(0, classes - 1)
      sum = over.sum(sum, each_example(run, "label", over.sum, parameters, rest, batch, one_hot(label, classes, z)))
    end
    return sum, n * rows * o.samples
  end

  -- The labels of the data; of an example with several rows the mean of them.
  local function own_labels(run, kind, join, root, parameters, rest, batch, what)
    local z = run.outputs(parameters, rest, batch)
    local rows, classes = extent(z)
    local pick = one_hot(labels_of(what, root, batch), classes, z)
    return each_example(run, kind, join, parameters, rest, batch, pick / rows)
  end

  function kinds.empirical(run, root, parameters, rest, batch)
    return own_labels(run, "label", over.sum, root, parameters, rest, batch, "probe.fisher"), batch.x.shape[1]
  end

  local fisher = told(function(net, theta, data, o)
    local what = "probe.fisher"
    check(what, o, { "kind", "seed", "samples", "batch", "journal" })
    o = o or {}
    local how = kinds[o.kind or "exact"]
    if not how then
      error(('%s: kind = %q; expected "exact", "sampled" or "empirical"'):format(what, tostring(o.kind)), 2)
    end
    local draws = { seed = o.seed or 0, samples = o.samples or 1 }
    local parameters, rest, as_given, with_buffers = over.opened(what, net, theta)
    local run = runs(net)
    local draw <close> = progress(what, nil, "examples")
    local j <close> = journal.open(what, o, { net, theta, data }, draw)
    local r = j.loop({ "squares" }, function(loop)
      return (over.gathered(what, data, o.batch or 32, loop, { total = 0 }, function(sums, b, first)
        local s, n = how(run, net, parameters, rest, tensors_only(b), first, draws)
        sums.squares, sums.total = over.sum(sums.squares, s), sums.total + n
        draw(first + b.x.shape[1] - 1)
      end))
    end)
    return as_given(with_buffers(over.scale(r.squares, 1 / r.total)))
  end)

  local norms = told(function(net, theta, data, o)
    local what = "probe.example_norms"
    check(what, o, { "batch" })
    local parameters, rest = over.opened(what, net, theta)
    local run, list = runs(net), {}
    over.chunks(what, data, o and o.batch or 32, function(b)
      list[#list + 1] = own_labels(run, "norms", appended, net, parameters, rest, tensors_only(b), what)
    end)
    return tensor.cat(list, 1):sqrt()
  end)

  local made = "local net = nn.mlp { 2, 3, 2 }\nlocal theta = net:init { seed = 1 }\n"
    .. "local d = { x = tensor { {1, 2}, {3, 4}, {5, 6} }, y = tensor({ 0, 1, 1 }, { dtype = \"i64\" }) }\n"

  define("probe.fisher",
    "probe.fisher(net, theta, data, {kind = \"exact\", seed = 0, samples = 1, batch = 32, journal =}) -> vector",
    "Which parameters do the outputs depend on? The diagonal of the Fisher information at theta, a vector with "
    .. "theta's names, for merge.fisher: the mean over the rows that the network scores of Σ_c p(c) (d log p(c) / d "
    .. "theta)², with p = softmax of its outputs, for each example by itself, so that it does not depend on the "
    .. "batch. Buffers count as zero. Half-precision weights are taken as f32.\n"
    .. "  kind: \"exact\": all classes (one walk for each class and row). \"sampled\": `samples` labels for each row, "
    .. "drawn from p by the seed and the example: an unbiased estimate. \"empirical\": the labels of the data; an "
    .. "example of several rows counts by the mean of their losses. Not the Fisher information, but often taken for "
    .. "it (Kunstner et al. 2019, arXiv:1905.12558). Only this one needs labels\n"
    .. "  batch: examples at a time; journal: a file that keeps what is done, so that a run that was stopped goes on\n"
    .. "Matena, Raffel 2022, arXiv:2111.09832, with the expectation over classes exact as there.\n"
    .. "Reading it: read entries against each other within a tensor; their sum is the trace of the Gauss-Newton "
    .. "matrix (probe.fisher_trace). Cost: exact, a backward walk for each class (and row); sampled and empirical, "
    .. "one or samples. Misleads: a diagonal leaves out how parameters act together, and changes under rescalings "
    .. "that change no output.",
    made .. "local f = probe.fisher(net, theta, d)\nprint(f:mass(), f[\"fc1.weight\"]:min() >= 0)\n-- > 0.0\ttrue",
    fisher)

  define("probe.example_norms", "probe.example_norms(net, theta, data, {batch = 32}) -> tensor",
    "Which examples pull hardest? The norm of the gradient of each example's cross entropy by all parameters, in the "
    .. "order of the data (Goodfellow 2015, arXiv:1510.01799).\n"
    .. "Reading it: a few large ones are examples that are hard, rare or labelled wrongly. Cost: about a gradient "
    .. "over the data. Misleads: norms fall with the loss, so compare at one model.",
    made .. "print(probe.example_norms(net, theta, d).shape)\n-- > [3]", norms)

  define("probe.example_squares", "probe.example_squares(f, x, batch, …) -> squares, norms, value",
    "For a function f(x, batch, …) whose value is a sum over the examples of the batch: Σ_n g_n² with the structure "
    .. "of x, and the vector of |g_n|², where g_n is the gradient by x of example n's share; with them the value. "
    .. "batch: a tensor, or a table of tensors whose first dimension counts examples, which must stay first until x "
    .. "is used no more. x: as in grad. Products, convolutions, embeddings and whatever broadcasts a parameter have "
    .. "closed forms, so that this costs little more than a gradient. Works inside compile. It answers what the "
    .. "mean gradient hides: how large are the gradients of single examples? Reading it: a norm far above the "
    .. "others is an example that pulls alone. Misleads: where f is a mean and not a sum, every g_n is smaller by "
    .. "that.",
    "local function f(w, b) return (b:matmul(w) ^ 2):sum() / 2 end\n"
    .. "print(probe.example_squares(f, tensor { {1}, {2} }, tensor { {1, 0}, {1, 1} }))\n"
    .. "-- > f32[2, 1]\n-- > [[10.],\n-- >  [ 9.]]\tf32[2]\n-- > [ 1., 18.]\t5.0", core.example_squares)
end
