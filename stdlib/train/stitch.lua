-- SPDX-License-Identifier: Apache-2.0
-- The affine map of a stitched network (nn.stitch): by least squares between the activations on both sides, from
-- their covariances in f64, gathered chunk by chunk; or trained on the task with everything else held.
return function(define, check, core)
  local nn_net = require "nn.net"
  local chunks_of = require "nn.loss".chunks_of
  local what = "train.stitch"

  local given = require "train.given"(core)
  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- Of two models, all tensors of the stitched network; the map is 0.
  local function joined(net, theta_a, theta_b)
    local values, dtype, of = {}, "f32", { a = theta_a, b = theta_b }
    for _, name in ipairs { "a", "b" } do
      local m = of[name]
      if core.kind(m) ~= "model" then fail("the parameters of %s are a model, got %s", name, core.kind(m)) end
      of[name] = m:load()
    end
    for _, p in ipairs(net:params()) do
      local half, name = p.name:match "^([ab])%.(.*)$"
      if half then
        local ok, t = pcall(of[half].tensor, of[half], name)
        if not ok then fail("the parameters of %s have no %s", half, name) end
        values[p.name], dtype = t, t.dtype == "f64" and "f64" or dtype
      end
    end
    local list = {}
    for i, p in ipairs(net:params()) do
      list[i] = { p.name, values[p.name] or tensor.zeros(p.shape, { dtype = dtype }) }
    end
    return model.new(list), of.a, of.b
  end

  local function with_map(theta, weight, bias)
    local dtype = theta["stitch.weight"].dtype
    return core.with_values(theta, { ["stitch.weight"] = weight:to(dtype), ["stitch.bias"] = bias:to(dtype) })
  end

  -- ---- least squares ----

  -- n, means and covariances of what comes out of the two cuts, x and y.
  local function moments(net, theta_a, theta_b, set, size)
    local halves = net.halves
    local run = compile(function(a, b, batch) return halves.a(a, batch), halves.before_b(b, batch) end)
    local count, chunk = chunks_of(set, size)
    local s, n, origin = nil, 0, nil
    for k = 1, count do
      local both = { run(theta_a, theta_b, chunk(k)) }
      for i, t in ipairs(both) do
        local shape = t.shape
        both[i] = t:to("f64"):reshape { t:numel() // shape[#shape], shape[#shape] }
      end
      local x, y = both[1], both[2]
      if x.shape[1] ~= y.shape[1] then
        fail("a gives %d rows where b has %d: their activations differ in more than their last dimension", x.shape[1],
          y.shape[1])
      end
      origin = origin or { x:mean(1), y:mean(1) } -- near the mean, so that little cancels below
      x, y = x - origin[1], y - origin[2]
      local part = { x = x:sum(1), y = y:sum(1), xx = x:t():matmul(x), xy = x:t():matmul(y), yy = (y * y):sum(1) }
      for name, t in pairs(part) do part[name] = s and s[name] + t or t end
      s, n = part, n + x.shape[1]
    end
    local mx, my = s.x / n, s.y / n
    return { mx = mx + origin[1], my = my + origin[2], xx = s.xx / n - mx:unsqueeze(2) * mx,
      xy = s.xy / n - mx:unsqueeze(2) * my, yy = s.yy / n - my * my }
  end

  -- The map of least squared error and, where several are as good, of least norm.
  local function solved(c, ridge)
    local values, vectors = c.xx:eigh()
    local floor = ridge * values:mean()
    local counts = values:gt(1e-12 * math.max(values:max(), 0))
    local inverse = tensor.where(counts, 1 / (values + floor), 0)
    local w = (vectors * inverse):matmul(vectors:t():matmul(c.xy)) -- [in, out]
    local rest = c.yy:sum() - 2 * (w * c.xy):sum() + (w * c.xx:matmul(w)):sum()
    return w:t(), c.my - c.mx:unsqueeze(1):matmul(w)[1], { rank = math.tointeger(counts:sum()),
      unexplained = c.yy:sum() > 0 and math.max(rest, 0) / c.yy:sum() or 0.0 }
  end

  -- ---- the map ----

  local own = { how = true, ridge = true, chunk = true, from = true }

  local function stitch(net, theta_a, theta_b, set, options)
    options = given.options(what, options)
    if not nn_net.is(net) or not net.halves then fail("expected a network of nn.stitch, got %s", core.kind(net)) end
    local o, fit = options, {}
    for name, v in pairs(o) do fit[name] = not own[name] and v or nil end
    local how, ridge, from = o.how or "solve", o.ridge or 0, o.from or "solve"
    if how ~= "solve" and how ~= "sgd" then fail("how is \"solve\" or \"sgd\", got %s", given.shown(how)) end
    if o.chunk ~= nil and (math.type(o.chunk) ~= "integer" or o.chunk < 1) then
      fail("chunk is a whole number, at least 1, got %s", given.shown(o.chunk))
    end
    if type(ridge) ~= "number" or ridge ~= ridge or ridge < 0 then
      fail("ridge is a number, at least 0, got %s", given.shown(ridge))
    end
    if how == "solve" then check(what, o, { "how", "ridge", "chunk", "val", "loss" }) end
    local theta, a, b = joined(net, theta_a, theta_b)
    local info = {}
    if how == "solve" or from == "solve" then
      local weight, bias
      weight, bias, info = solved(moments(net, a, b, set, o.chunk or 1000), ridge)
      theta = with_map(theta, weight, bias)
    elseif from == "identity" then
      local w = theta["stitch.weight"]
      if w.shape[1] ~= w.shape[2] then
        fail("there is no identity from %d to %d activations", w.shape[2], w.shape[1])
      end
      theta = with_map(theta, tensor.eye(w.shape[1]), theta["stitch.bias"])
    elseif from == "random" then
      local first = net:init { seed = type(o.seed) == "number" and o.seed or o.seed and o.seed.init or 0 }
      theta = with_map(theta, first["stitch.weight"], first["stitch.bias"])
    else
      fail("from is \"solve\", \"identity\" or \"random\", got %s", given.shown(from))
    end
    if how == "sgd" then
      fit.start, fit.only = theta, "stitch.*"
      theta, info.log = train.fit(net, set, fit)
    end
    local judged = { loss = o.loss }
    info.loss = net:loss(o.val or set, judged)(theta)
    info.penalty = info.loss - net.halves.b:loss(o.val or set, judged)(b)
    return theta, info
  end

  define(what, "train.stitch(net, theta_a, theta_b, data, {how = \"solve\", ridge = 0, val = data, …}) -> theta, info",
    "The parameters of a stitched network (nn.stitch) from two models: their halves as they are, and the map between "
    .. "them. info.penalty is loss(stitched) - loss(b) on val: how well the layers of a serve those of b (Lenc and "
    .. "Vedaldi 2014, arXiv:1411.5908; Bansal et al. 2021, arXiv:2106.07682). info.loss is the first of the two.\n"
    .. "  how: \"solve\" takes the least squares map from a's activations behind its part to b's behind its own, the "
    .. "one of least norm where there are several; data need no labels but for the penalty. info.unexplained is the "
    .. "share of the variance of b's activations that is missed, info.rank the rank of a's.\n"
    .. "  \"sgd\" trains the map alone on the loss: all options of train.fit; info.log is what it tells\n"
    .. "  from: where that begins: \"solve\", \"identity\" or \"random\"\n"
    .. "  ridge: added to the variances, in units of their mean; chunk: examples at a time (1000)\n"
    .. "  loss: as in net:loss; val: the data that the penalty is measured on",
    "local net, d = nn.mlp { 2, 8, 2, act = \"tanh\" }, data.two_moons { n = 100, seed = 1 }\n"
    .. "local m = net:init { seed = 1, dtype = \"f64\" }\n"
    .. "local theta, info = train.stitch(nn.stitch(net, \"act1\", net, \"act1\"), m, m, d)\n"
    .. "print((theta[\"stitch.weight\"] - tensor.eye(8)):abs():max() < 1e-3, math.abs(info.penalty) < 1e-6)\n"
    .. "-- > true\ttrue", stitch)
end
