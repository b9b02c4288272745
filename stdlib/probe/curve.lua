-- SPDX-License-Identifier: Apache-2.0
-- Curves between two solutions along which the loss is low, found by training their bends (Garipov et al. 2018,
-- arXiv:1802.10026; Draxler et al. 2018, arXiv:1803.00885).
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local descent = require "probe.descent"(check, core)
  local points = require "probe.points"(core)
  local journal = require "probe.journal"(core)
  local new_curve = require "probe.curves"(check, core)
  local fail = descent.fail

  define("probe.curve", "probe.curve(f, a, b, {kind = \"bezier\", bends = 1, start =, data =, epochs = 10 or steps =, "
    .. "batch = 128, lr = 0.05, optimiser =, schedule =, weight_decay = 0, seed = 0, log =, journal =}) -> curve",
    "A trained curve from a to b. Question: are two solutions joined by a path of low loss? The ends stay; the bends, "
    .. "which start on the straight line, are trained so that the loss is low at a random point of the curve, one t a "
    .. "step (Garipov et al. 2018, arXiv:1802.10026). f: net:loss(data), a network with data, or a function of a "
    .. "point (a model, a tensor, a table of tensors) that grad can differentiate; of (point, batch) with data. The "
    .. "curve is a function: c(t) is the model at t, c(0) and c(1) are a and b themselves; c.points are a, the bends, "
    .. "b; c.losses those of the steps; c:path(f) evaluates it.\n"
    .. "  kind: \"bezier\", \"polychain\" (straight pieces) or \"quadratic\" (the parabola through a trained middle; "
    .. "the curves of bezier with one bend, with another weight on the speed)\n"
    .. "  bends: how many points are trained; start: their first values instead, a list\n"
    .. "  epochs, steps, batch: as in train.fit; a function without data takes 1000 steps\n"
    .. "  optimiser: SGD with momentum 0.9 by default; lr: its rate; schedule: by default the full rate for half of "
    .. "the run, then a line to 1 % at nine tenths\n"
    .. "  weight_decay: of the points of the curve, in the loss: 0.5 weight_decay |c(t)|^2\n"
    .. "  seed: of the order of examples and of t; log: a .csv or .jsonl file, a row an epoch\n"
    .. "  journal: a file that keeps the state of the training; a run that was stopped goes on where it ended\n"
    .. "Reading it: c:path(f) near the ends' loss all along says connected; its greatest loss is an upper bound of the "
    .. "true pass. Cost: that of training as long; about ten epochs do for small networks. Misleading: almost any two "
    .. "solutions of one network are joined by such a curve, so a curve says less than a straight line after "
    .. "alignment (align); networks with batch norm are trained with the statistics of the batch and need bn = data "
    .. "in c:path.",
    "local function f(x)  -- two wells, the way between them is bent\n  local u, v = x[1], x[2]\n"
    .. "  return (u^2 - 1)^2 + 2 * (v - 0.8 * (1 - u^2))^2\nend\n"
    .. "local c = probe.curve(f, tensor { -1, 0 }, tensor { 1, 0 }, { steps = 300, lr = 0.02 })\n"
    .. "print(c:path(f).statistics.loss.max < 1.5, probe.barrier(f, c(0), c(1)).max_loss > 2.2)\n-- > true\ttrue",
    told(function(f, a, b, o)
      local what = "probe.curve"
      o = descent.check(what, o, { "kind", "bends", "start" })
      expect(what, o, { start = "a table" })
      local source = descent.source(what, f, a, o)
      local space, kind = source.space, o.kind or "bezier"
      if o.start and o.bends and #o.start ~= o.bends then fail(what, "start has %d bends of %d", #o.start, o.bends) end
      local bends = points.count(what, "bends", o.start and #o.start or o.bends or 1, 1)
      new_curve.kind(what, kind, bends)
      local total = descent.steps(what, o, source, 10)
      local opt, rate = descent.optimiser(what, o, total, 0.05)
      local first, last = space.pack(a), space.pack(b)
      local free = {}
      for k = 1, bends do
        local t = k / (bends + 1)
        free[k] = o.start and space.pack(o.start[k]) or (1 - t) * first + t * last
      end
      local seed = points.count(what, "seed", o.seed or 0, 0)
      local losses
      local j <close> = journal.open(what, o, { f, a, b })
      free, losses = descent.train(source, opt, rate, { free = free, fixed = { first, last }, steps = total,
        journal = j, key = { "bends" }, seed = seed, log = o.log, weight_decay = o.weight_decay, draw = function(i)
          local c = new_curve.coefficients(kind, bends, descent.uniform(seed, i, 1)[1])
          table.insert(c, 1, 1.0) -- the weight of the sample; then bends, then ends
          table.insert(c, bends + 2, table.remove(c, 2))
          return { c }
        end })
      return new_curve.make { kind = kind, space = space, a = a, b = b, first = first, last = last, bends = free,
        losses = losses, steps = total }
    end))

  define("curve:path", "c:path(f, {points = 61, t =, bn =, journal =, label =}) -> path",
    "f along a curve of probe.curve, probe.neb or probe.geodesic: what probe.path gives, with these beside it: "
    .. "arc (the "
    .. "length from the first point on, in parameter space), length and straight (of the line between the ends), "
    .. "statistics.loss and statistics.error: {min, max, mean, by_length (the mean weighted by arc length)} as the "
    .. "authors of curve finding report them. With batch norm give bn = data: running statistics are then made anew "
    .. "at every point, ends included.",
    "local function f(x) return (x * x):sum() end\n"
    .. "local c = probe.curve(f, tensor { -1, 0 }, tensor { 1, 0 }, { steps = 0 })\n"
    .. "local p = c:path(f, { points = 5 })\nprint(p.length, p.statistics.loss.max)\n-- > 2.0\t1.0",
    new_curve.methods.path)
end
