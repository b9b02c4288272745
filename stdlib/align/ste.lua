-- SPDX-License-Identifier: Apache-2.0
-- Matching by the loss in the middle, through the straight-through estimator (Ainsworth et al. 2022, arXiv:2209.04836,
-- algorithm 3). Free weights X start at a. In each step b is matched to X, and the loss of the midpoint between a and
-- the moved b has a gradient by the moved b, which X follows as if it were the moved b. So the loss says in which
-- direction better permutations lie, and the matching finds one. The best that was seen is kept, the matching that it
-- started from among them.
return function(define, check, core)
  local map = require "align.map"(core)
  local middle = require "align.middle"(core)
  local mix = require "train.mix"(check, core)
  local net_of = require "nn.net"
  local what = "align.ste"

  local function same(p, q)
    for c, m in pairs(p.maps) do
      local w = q.maps[c]
      if not w or m.index:ne(w.index):to("i64"):sum() > 0 then return false end
      if m.sign and m.sign:ne(w.sign):to("i64"):sum() > 0 then return false end
    end
    return true
  end

  local function ste(net, a, b, o)
    o = o or {}
    check(what, o, { "data", "steps", "batch", "examples", "lr", "momentum", "optimiser", "loss", "every", "start",
      "seed", "sweeps", "pin", "free", "check", "log" })
    if not net_of.is(net) then error(("%s: expected a network, got %s"):format(what, core.kind(net)), 0) end
    if o.data == nil then error(what .. ": data = … is needed, with labels", 0) end
    local steps, batch = mix.whole(what, o, "steps", 1, 200), mix.whole(what, o, "batch", 1, 256)
    local most, seed = mix.whole(what, o, "examples", 1, 2000), mix.whole(what, o, "seed", 0, 0)
    local every = mix.whole(what, o, "every", 1, 1)
    local one, two, names, mode = middle.opened(what, net, a, b)
    local momentum = mix.number(what, o, "momentum", 0.9, 0, 1)
    local opt = mix.optimiser(what, o, function(how) return train.sgd { lr = how.lr, momentum = momentum } end, 0.01)
    local set = mix.set(what, o.data)
    local feed = mix.feed({ set }, batch, steps, seed)
    local loss = mix.objective(net, o.loss or "cross_entropy")
    local shown = set.n > most and set:take(most) or set
    local score = net:loss(shown, { loss = o.loss, batch = batch, mode = mode, key = 0 })

    local function objective(moved, rest, list)
      local whole = {}
      for name, v in pairs(rest) do whole[name] = v end
      for name, v in pairs(moved) do whole[name] = v end
      local y = (net_of.run(net, middle.between(one, whole, 0.5), list[1], { mode = mode, key = list.key }))
      return loss(y, list[1])
    end
    local step = compile(function(x, moved, rest, list, state, rate, t, phase)
      local value, g = value_and_grad(objective, moved, rest, list)
      local new, new_state = opt:apply(x, g, state, rate, t, phase)
      return new, new_state, value
    end)

    local function parts(theta)
      local own, rest = {}, {}
      for name, v in pairs(theta) do rest[name] = v end
      for _, name in ipairs(names) do own[name], rest[name] = theta[name], nil end
      return own, rest
    end
    local x = parts(one)
    local full = {}
    for name, v in pairs(one) do full[name] = v end
    local state = opt:init(x)
    local function matched(start)
      for name, v in pairs(x) do full[name] = v end
      return align.weights(net, full, two, { start = start, seed = seed, sweeps = o.sweeps, pin = o.pin, free = o.free,
        check = false })
    end
    local p = o.start or matched(nil)
    if not map.is(p) or not p.exact then
      error(what .. ": start is an alignment of permutations, as align.weights makes", 0)
    end
    local moved = p:apply(two)
    local best, least, trace, losses = p, score(middle.between(one, moved, 0.5)), {}, {}
    trace[1] = least
    local key = tensor({ seed }, { dtype = "i64" })
    for t = 1, steps do
      local own, rest = parts(moved)
      local list = feed()
      list.key = key + t
      local value
      x, state, value = step(x, own, rest, list, state, opt:lr(t), t, opt:phase(t))
      losses[t] = value
      if t % every == 0 or t == steps then
        local new = matched(p)
        if not same(new, p) then
          p, moved = new, new:apply(two)
          local now = score(middle.between(one, moved, 0.5))
          if now < least then best, least = p, now end
          trace[#trace + 1] = now
        end
      end
      if o.log and o.log { step = t, loss = value, best = least } == false then break end
    end
    return map.finish(map.new { net = net, layout = best.layout, maps = best.maps, method = "ste",
      info = { trace = trace, losses = losses, objective = least, before = trace[1] } }, a, b, o)
  end

  define(what, "align.ste(net, a, b, {data =, steps = 200, batch = 256, lr = 0.01, momentum = 0.9, optimiser =, loss = "
    .. "\"cross_entropy\", examples = 2000, every = 1, start =, seed = 0, sweeps =, pin =, free =, check =, log =}) -> "
    .. "alignment",
    "Permutations that make the loss halfway between a and the moved b small, by a gradient through the "
    .. "matching (the straight-through estimator of Ainsworth et al. 2022, arXiv:2209.04836): free weights that "
    .. "start at a are matched with b in each step and moved by the gradient of the midpoint's loss. Of all "
    .. "alignments that are met, the one with the least midpoint loss on the first `examples` of the data is "
    .. "returned, so it is never worse there than the one it starts from. Data need labels. A network with batch "
    .. "norms is run with the statistics of each batch.\n"
    .. "  start: an alignment to begin with, else that of align.weights\n"
    .. "  every: steps between two matchings\n"
    .. "  sweeps: at most so many in each matching\n"
    .. "  log: a function of { step, loss, best } after each step; when it returns false the best so far is returned\n"
    .. "p.trace has the midpoint's loss of each alignment met, p.before and p.objective the first and the least, "
    .. "p.losses that of each step's batch.",
    [[
local net = nn.mlp { 2, 8, 2 }
local d = { x = tensor.randn({ 64, 2 }, 1), y = tensor.randint(0, 2, { 64 }, 2) }
local a, b = net:init { seed = 1 }, net:init { seed = 2 }
local p = align.ste(net, a, b, { data = d, steps = 20, batch = 32 })
print(p:check(net, b) < 1e-5, p.objective <= p.before)
-- > true	true]], ste)
end
