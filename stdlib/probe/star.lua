-- SPDX-License-Identifier: Apache-2.0
-- A star model: one solution that is joined to many others by straight lines (Sonthalia et al. 2024, arXiv:2403.07968).
return function(define, check, core)
  local told = require "nn.told"
  local record = require "probe.record"
  local descent = require "probe.descent"(check, core)
  local points = require "probe.points"(core)
  local journal = require "probe.journal"(core)
  local fail = descent.fail

  local new = record.kind("star", {
    text = function(r)
      local n = math.min(#r.losses, 50)
      local sum = 0
      for k = #r.losses - n + 1, #r.losses do sum = sum + r.losses[k] end
      return ("star model of %d anchors, %d steps%s"):format(#r.anchors, #r.losses, n > 0
        and ", loss of the last ones " .. record.short(sum / n) or "")
    end,
    rows = record.losses.rows,
    plot = record.losses.plot "training of the star model",
  })

  -- How far from the star: from two uniform numbers or more.
  local places = {
    uniform = function(u) return u[2] end,
    -- Beta(2, 2): the middle one of three.
    beta = function(u)
      local a, b, c = u[2], u[3], u[4]
      return math.max(math.min(a, b), math.min(math.max(a, b), c))
    end,
  }

  define("probe.star", "probe.star(f, {anchor, …}, {start =, t = \"uniform\", mu = 0, align =, data =, epochs = 10 or "
    .. "steps =, batch = 128, lr = 0.05, optimiser =, schedule =, weight_decay = 0, seed = 0, …}) -> star",
    "A star model (Sonthalia et al. 2024, arXiv:2403.07968): r.model is trained so that the loss is low on the lines "
    .. "from it to the anchors. Question: is there a solution from which all others are seen in a straight line? Each "
    .. "step takes one anchor and one t, and moves the star alone along the gradient of L((1 - t) star + t anchor). "
    .. "f: as in probe.curve. The record has model, anchors (as they were last aligned) and losses; probe.barriers(f, "
    .. "{ r.model, held_out, … }) is what one looks at: barriers from the star to solutions it has not seen, against "
    .. "those between them.\n"
    .. "  start: the star at first; default: the mean of the anchors\n"
    .. "  t: \"uniform\", \"beta\" (Beta(2, 2), more of it in the middle; the authors' program calls it normal), or a "
    .. "number\n"
    .. "  mu: weight of the loss of the star itself\n"
    .. "  align: function(star, anchor) -> anchor, called for all anchors before each epoch, such as function(s, m) "
    .. "return align.weights(net, s, m):apply(m) end\n"
    .. "  the rest: as in probe.curve\n"
    .. "Reading it: the star's barriers far below those between solutions say yes. Cost: that of training as long. "
    .. "Misleading: few anchors are joined easily, so test on solutions held out; without alignment the star of "
    .. "nets trained apart is hard to find.",
    "local function f(x) return (x[1]^2 + x[2]^2 - 1)^2 end  -- low on a ring\n"
    .. "local r = probe.star(f, { tensor { 1, 0 }, tensor { 0.6, 0.8 } }, { steps = 200 })\n"
    .. "print(probe.barrier(f, r.model, tensor { 1, 0 }) < 0.02)\n-- > true",
    told(function(f, given, o)
      local what = "probe.star"
      o = descent.check(what, o, { "start", "t", "mu", "align" })
      if type(given) ~= "table" or #given == 0 then fail(what, "expected a list of anchors") end
      local place = places[o.t or "uniform"]
      if type(o.t) == "number" then place = function() return o.t end end
      if not place then fail(what, "t is \"uniform\", \"beta\" or a number, got %s", tostring(o.t)) end
      if o.align ~= nil and type(o.align) ~= "function" then fail(what, "align is a function(star, anchor)") end
      local anchors, fixed = {}, {}
      for k, m in ipairs(given) do anchors[k] = descent.loaded(what, m) end
      local source = descent.source(what, f, anchors[1], o)
      local space, n = source.space, #anchors
      for k, m in ipairs(anchors) do fixed[k] = space.pack(m) end
      local like = o.start and descent.loaded(what, o.start) or anchors[1]
      local total = descent.steps(what, o, source, 10)
      local opt, rate = descent.optimiser(what, o, total, 0.05)
      local seed, mu = points.count(what, "seed", o.seed or 0, 0), o.mu or 0
      local function realign(_, free)
        local star = space.point(free[1], like, like, 0)
        for k, m in ipairs(anchors) do
          anchors[k] = descent.loaded(what, o.align(star, m), "what align gives")
          fixed[k] = space.pack(anchors[k])
        end
      end
      -- Aligned anchors follow from the star as it was then, so they are kept.
      local function save()
        local parts = {}
        for k, m in ipairs(anchors) do parts[k] = core.kind(m) == "model" and journal.parts(m) or m end
        return parts
      end
      local function load(parts)
        for k, part in ipairs(parts) do
          anchors[k] = core.kind(anchors[k]) == "model" and journal.whole(part, anchors[k]) or part
        end
      end
      local j <close> = journal.open(what, o, { f, given })
      local free, losses = descent.train(source, opt, rate, { free = { o.start and space.pack(o.start)
        or descent.mean(fixed) }, fixed = fixed, steps = total, seed = seed, log = o.log,
        weight_decay = o.weight_decay, epoch = o.align and realign, save = o.align and save, load = o.align and load,
        journal = j, key = { "star" },
        draw = function(i)
          local u = descent.uniform(seed, i, 4)
          local t, which = place(u), math.floor(u[1] * n) + 1
          local sample, alone = { 1.0, 1.0 - t }, { mu + 0.0, 1.0 }
          for k = 1, n do sample[k + 2], alone[k + 2] = k == which and t + 0.0 or 0.0, 0.0 end
          return mu ~= 0 and { sample, alone } or { sample }
        end })
      return new { model = space.point(free[1], like, like, 0), anchors = anchors, losses = losses, steps = total }
    end))
end
