-- SPDX-License-Identifier: Apache-2.0
-- Second moments of what goes into linear maps and convolutions, and of the gradients by what comes out of them: the
-- factors of each layer's curvature, for merge.regmean and merge.mats.
return function(define, check, core)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local over = require "probe.over"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)

  -- The layers that a Gram matrix describes: path -> {name of the weight, of the network}.
  local function layers_of(root)
    local layers = {}
    for _, t in ipairs(net_of.structure(root).tensors) do
      if t.spec.name == "weight" and not t.buffer then layers[t.path] = { name = t.name } end
    end
    net_of.walk(root, function(n, path)
      local layer, linear = layers[path], n.kind == "linear" and not n.transposed
      local conv = n.kind == "conv2d" and n.how.groups == 1
      if layer and not (linear or conv) then layers[path] = nil end
    end)
    return layers
  end

  local function gram_of(x) return x:t():matmul(x) end

  -- wanted: {[name] = true}; nil: all.
  local function inputs(root, layers, theta, batch, wanted)
    local sums, counts = {}, {}
    net_of.run(root, theta, batch, { mode = "eval", watch = function(n, path, x)
      local layer = layers[path]
      if not layer or n.kind ~= "linear" and n.kind ~= "conv2d" or wanted and not wanted[layer.name] then return end
      local seen, count = over.rows(n, x)
      local g = gram_of(seen)
      sums[layer.name] = sums[layer.name] and sums[layer.name] + g or g
      counts[layer.name] = (counts[layer.name] or 0) + count
    end })
    return sums, counts
  end

  local runs = over.compiled(function(root)
    local layers, r = layers_of(root), {}
    r.inputs = compile(function(parameters, rest, batch, wanted)
      return inputs(root, layers, over.joined(parameters, rest), batch, wanted)
    end)
    -- A zero is added to the output of each layer: the gradient by it is that by the output.
    r.shapes = compile(function(parameters, rest, batch)
      local out = {}
      net_of.run(root, over.joined(parameters, rest), batch, { mode = "eval", watch = function(n, path, _, y)
        if layers[path] and (n.kind == "linear" or n.kind == "conv2d") then out[path] = 0 * y end
      end })
      return out
    end)
    r.outputs = compile(function(parameters, rest, batch, zeros, pick)
      local theta = over.joined(parameters, rest)
      local p = over.scored(root, theta, batch):softmax(-1)
      local g = grad(function(added)
        local y = (net_of.run(root, theta, batch, { mode = "eval",
          watch = function(_, path, _, out) return added[path] and out + added[path] end }))
        if root.predicts == "next" and batch.y == nil then y = y[{ {}, { 1, y.shape[2] - 1 } }] end
        return (y:log_softmax(-1) * (p:sqrt() * pick)):sum()
      end, zeros)
      local sums = {}
      for path, t in pairs(g) do
        local shape, count = t.shape, 1
        for k = 1, #shape - 1 do count = count * shape[k] end
        local own = gram_of(t:reshape { count, shape[#shape] })
        local name = layers[path].name
        sums[name] = sums[name] and sums[name] + own or own
      end
      return sums
    end)
    return r
  end)

  local function add(sums, more)
    for name, t in pairs(more) do sums[name] = sums[name] and sums[name] + t or t end
  end

  local function result(what, theta, sums, counts)
    if not next(sums) then error(what .. ": there is no linear map or convolution that this describes", 3) end
    local out = {}
    for name, t in pairs(sums) do out[name] = t / (type(counts) == "table" and counts[name] or counts) end
    return core.kind(theta) == "model" and model.new(out, { mass = 0 }) or out
  end

  -- more(sums, run, parameters, rest, batch): what is added besides.
  local function gather(what, net, theta, data, o, wanted, more)
    local parameters, rest = over.opened(what, net, theta)
    local run = runs(net)
    local draw <close> = progress(what, nil, "examples")
    local j <close> = journal.open(what, o, { net, theta, data }, draw)
    return j.loop({ "moments" }, function(loop)
      local first = { inputs = {}, counts = {}, outputs = {}, scored = 0 }
      return (over.gathered(what, data, o and o.batch or 256, loop, first, function(sums, b, at)
        local batch = { x = b.x, y = b.y }
        local s, n = run.inputs(parameters, rest, batch, wanted)
        add(sums.inputs, s)
        for name, k in pairs(n) do sums.counts[name] = (sums.counts[name] or 0) + k end
        if more then more(sums, run, parameters, rest, batch) end
        draw(at + b.x.shape[1] - 1)
      end))
    end)
  end

  local gram = told(function(net, theta, data, o)
    check("probe.gram", o, { "batch", "only", "journal" })
    local wanted = o and o.only and {}
    for _, p in ipairs(wanted and net:params() or {}) do wanted[p.name] = o.only(p.name) or nil end
    local sums = gather("probe.gram", net, theta, data, o, wanted)
    return result("probe.gram", theta, sums.inputs, sums.counts)
  end)

  local moments = told(function(net, theta, data, o)
    local what = "probe.moments"
    check(what, o, { "batch", "journal" })
    local all = gather(what, net, theta, data, o, nil, function(sums, run, parameters, rest, batch)
      local zeros = run.shapes(parameters, rest, batch)
      local z = over.scored(net, over.joined(parameters, rest), batch)
      local shape = z.shape
      local n, classes = 1, shape[#shape]
      for k = 2, #shape - 1 do n = n * shape[k] end
      shape[1] = 1
      local picks = tensor.eye(n * classes):to(z.dtype)
      for k = 1, n * classes do
        add(sums.outputs, run.outputs(parameters, rest, batch, zeros, picks[k]:reshape(shape)))
      end
      sums.scored = sums.scored + batch.x.shape[1] * n
    end)
    return result(what, theta, all.inputs, all.counts), result(what, theta, all.outputs, all.scored)
  end)

  local made = "local net = nn.mlp { 2, 3, 2 }\nlocal theta = net:init { seed = 1 }\n"
    .. "local d = { x = tensor { {1, 2}, {3, 4} } }\n"

  define("probe.gram", "probe.gram(net, theta, data, {batch = 256, only =, journal =}) -> vector",
    "Which directions of its input does each layer see? For each linear map and convolution the matrix X' X / rows "
    .. "of what goes into it, [in, in] under the name of its weight, for merge.regmean: rows are examples, tokens "
    .. "or places of an image; of a convolution they are the pixels under the kernel, in the order of the weight "
    .. "[out, in h w]. Convolutions in groups and weights stored [in, out] are left out, and so are products that "
    .. "are no layer of their own (tied heads): their weights are averaged. only: a function(name) that chooses "
    .. "weights, as net:layers() gives them; journal: as in probe.fisher. Jin et al. 2023, arXiv:2212.09849.\n"
    .. "Reading it: eigenvalues that are 0 are directions in which a weight may be anything. Cost: a pass over the "
    .. "data, and in^2 numbers a layer. Misleads: of fewer rows than inputs the matrix is singular; regmean shrinks "
    .. "it towards its diagonal.",
    made .. "print(probe.gram(net, theta, d)[\"fc1.weight\"])\n-- > f32[2, 2]\n-- > [[ 5.,  7.],\n-- >  [ 7., 10.]]",
    gram)

  define("probe.moments", "probe.moments(net, theta, data, {batch = 256, journal =}) -> inputs, outputs",
    "How do inputs and gradients of each layer vary? The factors of its Kronecker-factored Fisher information, for "
    .. "merge.mats { a, b, inputs = {ia, ib}, outputs = {oa, ob} }: the second moments of its inputs, as "
    .. "probe.gram, and those of the gradients of log p by its outputs, [out, out], with the expectation over "
    .. "classes exact: summed over the places of the layer, and the mean over the rows that the network scores. "
    .. "Labels are not needed. journal: as in probe.fisher. Martens, Grosse 2015, arXiv:1503.05671; Tam et al. "
    .. "2024, arXiv:2312.04339.\n"
    .. "Reading it: the product of the two factors' traces is a layer's share of the Fisher information. Cost: a "
    .. "backward walk for each class, and in^2 + out^2 numbers a layer. Misleads: inputs and gradients count as "
    .. "independent, which they are not.",
    made .. "local inputs, outputs = probe.moments(net, theta, d)\n"
    .. "print(inputs[\"fc2.weight\"].shape, outputs[\"fc2.weight\"].shape)\n-- > [3, 3]\t[2, 2]", moments)
end
