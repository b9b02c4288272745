-- SPDX-License-Identifier: Apache-2.0
-- Sinkhorn re-basin (Guerrero Pena et al. 2022, arXiv:2212.12042): permutations made soft, so that any loss of the
-- moved network has a gradient by them. Each class has free numbers X; Sinkhorn's iteration on exp(X / tau) gives a
-- doubly stochastic matrix P, which is applied to weights by products (P where features are made, P' where they are
-- read).
-- The gradient goes through the fixed point and not through the iterations (tensor.sinkhorn). At the end, and
-- on the way, X is made hard by assignment, and the best permutation that was seen is kept.
return function(define, check, core)
  local features = require "align.features"(core)
  local map = require "align.map"(core)
  local middle = require "align.middle"(core)
  local mix = require "train.mix"(check, core)
  local net_of = require "nn.net"
  local what = "align.sinkhorn"

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  -- ---- distances of weights; tables by name ----

  local distances = {}

  local function mean(a, b, names, f)
    local sum, n = nil, 0
    for _, name in ipairs(names) do
      local v = f(a[name], b[name])
      sum, n = sum and sum + v or v, n + a[name]:numel()
    end
    return sum / n
  end

  function distances.l2(a, b, names)
    return mean(a, b, names, function(t, u) return ((t - u) ^ 2):sum() end)
  end

  function distances.l1(a, b, names)
    return mean(a, b, names, function(t, u) return (t - u):abs():sum() end)
  end

  function distances.cosine(a, b, names)
    local ab, bb, aa
    for _, name in ipairs(names) do
      local t, u = a[name], b[name]
      local x, y, z = (t * u):sum(), (u * u):sum(), (t * t):sum()
      ab, bb, aa = ab and ab + x or x, bb and bb + y or y, aa and aa + z or z
    end
    return 1 - ab / (aa * bb) ^ 0.5
  end

  -- ---- soft and hard maps ----

  local function key_of(c) return ("%05d"):format(c) end

  local function soft_maps(plan, x, tau, iterations)
    local maps = {}
    for _, c in ipairs(middle.sorted(plan.classes)) do
      local class = plan.classes[c]
      local p = tensor.sinkhorn(-1 * x[key_of(c)], { reg = tau, iterations = iterations, tolerance = 1e-6 })
      maps[c] = { forward = p, back = p:transpose(2, 3), under = class.under or {} }
    end
    return maps
  end

  local function moved_by(plan, theta, maps)
    local out = {}
    for _, name in ipairs(middle.sorted(theta)) do
      local about, t = plan.tensors[name], theta[name]
      out[name] = about and t.dtype:find "^f" and map.move(t, about.axes, maps) or t
    end
    return out
  end

  local function hardened(plan, x)
    local maps = {}
    for c, class in pairs(plan.classes) do
      local t, list = x[key_of(c)], {}
      for k = 1, t.shape[1] do list[k] = align.assignment(t[k], { maximise = true }) end
      maps[c] = { index = tensor.stack(list, 1), under = class.under or {} }
    end
    return maps
  end

  local function first(plan, o, seed)
    local x = {}
    for c, class in pairs(plan.classes) do
      local n = class.size
      local m = o.start and o.start.maps[c]
      local index = m and m.index or map.identity_index(plan, class)
      local one = index:unsqueeze(3):eq(tensor.arange(n) + 1):to "f32"
      x[key_of(c)] = one + (o.noise or 0.1) * tensor.randn({ index.shape[1], n, n }, seed * 1000003 + c)
    end
    return x
  end

  -- ---- the function ----

  local function sinkhorn(net, a, b, o)
    o = o or {}
    check(what, o, { "loss", "data", "task", "steps", "batch", "examples", "lr", "optimiser", "tau", "iterations",
      "noise", "every", "start", "seed", "pin", "free", "check", "log" })
    local kind = o.loss or "l2"
    local distance, by_task = distances[kind], kind == "mid" or kind == "random"
    if not distance and not by_task then
      fail("loss = %q; expected \"l2\", \"l1\", \"cosine\", \"mid\" or \"random\"", tostring(kind))
    end
    if by_task and o.data == nil then fail("loss = %q needs data with labels", kind) end
    if o.start ~= nil and not (map.is(o.start) and o.start.exact) then fail "start is an alignment of permutations" end
    local steps, every = mix.whole(what, o, "steps", 1, 200), mix.whole(what, o, "every", 1, 10)
    local iterations, seed = mix.whole(what, o, "iterations", 1, 100), mix.whole(what, o, "seed", 0, 0)
    local tau = mix.number(what, o, "tau", 1)
    if tau <= 0 then fail("tau is a number above 0, got %s", tostring(tau)) end
    local plan = features.layout(what, net, a, o)
    local one, two, names, mode = middle.opened(what, net, a, b)
    local opt = mix.optimiser(what, o, train.adamw, 0.1)

    local feed, objective, value_of
    if by_task then
      local set, batch = mix.set(what, o.data), mix.whole(what, o, "batch", 1, 256)
      local most = mix.whole(what, o, "examples", 1, 2000)
      local next_of = mix.feed({ set }, batch, steps, seed)
      local task = mix.objective(net, o.task or "cross_entropy")
      function feed(t)
        local list = next_of()
        list.key = tensor({ seed + t }, { dtype = "i64" })
        list.t = kind == "mid" and tensor { 0.5 } or tensor.uniform({ 1 }, seed * 7919 + t)
        return list
      end
      function objective(moved, list)
        local theta = middle.between(one, moved, list.t)
        return task((net_of.run(net, theta, list[1], { mode = mode, key = list.key })), list[1])
      end
      local shown = set.n > most and set:take(most) or set
      local score = net:loss(shown, { loss = o.task, batch = batch, mode = mode, key = 0 })
      function value_of(moved) return score(middle.between(one, moved, 0.5)) end
    else
      function feed() return {} end
      function objective(moved) return distance(one, moved, names) end
      function value_of(moved) return distance(one, moved, names) end
    end

    local step = compile(function(x, state, list, rate, t, phase)
      local value, g = value_and_grad(function(p)
        return objective(moved_by(plan, two, soft_maps(plan, p, tau, iterations)), list)
      end, x)
      local new, new_state = opt:apply(x, g, state, rate, t, phase)
      return new, new_state, value
    end, { donate = { 2 } })

    local x = first(plan, o, seed)
    local state, best, least, losses, trace = opt:init(x), nil, math.huge, {}, {}
    local function look()
      local maps = hardened(plan, x)
      local value = value_of(moved_by(plan, two, maps))
      trace[#trace + 1] = value
      if value < least then best, least = maps, value end
    end
    look()
    for t = 1, steps do
      local value
      x, state, value = step(x, state, feed(t), opt:lr(t), t, opt:phase(t))
      if value ~= value then fail("the loss is nan at step %d; a smaller rate or a larger tau may help", t) end
      losses[t] = value
      if t % every == 0 or t == steps then look() end
      if o.log and o.log { step = t, loss = value, best = least } == false then break end
    end
    return map.finish(map.new { net = net, layout = plan, maps = best, method = "sinkhorn",
      info = { losses = losses, trace = trace, objective = least, before = trace[1] } }, a, b, o)
  end

  define(what, "align.sinkhorn(net, a, b, {loss = \"l2\", data =, task = \"cross_entropy\", steps = 200, lr = 0.1, "
    .. "optimiser =, tau = 1, iterations = 100, noise = 0.1, every = 10, batch = 256, examples = 2000, start =, "
    .. "seed = 0, pin =, free =, check =, log =}) -> alignment",
    "Permutations by gradient (Sinkhorn re-basin: Guerrero Pena et al. 2022, arXiv:2212.12042): doubly "
    .. "stochastic matrices made of free numbers by Sinkhorn's iteration move b softly, a loss is minimised over "
    .. "these numbers by AdamW, and every so many steps they are made hard by assignment. The best hard alignment "
    .. "is returned, so p is a permutation and exact.\n"
    .. "  loss: distance of the moved b from a: \"l2\" (mean square), \"l1\" (mean magnitude), \"cosine\" (1 - "
    .. "cosine of all weights); or the task's loss on batches of data with labels, halfway (\"mid\") or at a "
    .. "random place on the line in each step (\"random\")\n"
    .. "  task: what \"mid\" and \"random\" take: a loss as in net:loss. They are judged halfway on the first "
    .. "`examples`\n"
    .. "  tau: temperature; smaller is harder. iterations: at most so many of Sinkhorn's iteration; the gradient "
    .. "is that of its limit\n"
    .. "  noise: of the start, beside the identity (or beside start)\n"
    .. "  every: steps between two hard looks\n"
    .. "  log: a function of { step, loss, best } after each step; when it returns false the best so far is returned\n"
    .. "p.losses has the loss of each step, p.trace that of the hard alignments, p.before and p.objective the "
    .. "first and the least of these. Memory and time are those of products with matrices of each group; the "
    .. "backward pass solves a system of twice the size of a group.",
    "local net = nn.mlp { 4, 6, 2 }\nlocal a = net:init { seed = 1 }\n"
    .. "local b = align.weights(net, net:init { seed = 2 }, a):apply(a) -- the same function in another order\n"
    .. "local p = align.sinkhorn(net, a, b, { steps = 60 })\n"
    .. "print(p.exact, p.objective < 1e-12)\n-- > true\ttrue", sinkhorn)
end
