-- SPDX-License-Identifier: Apache-2.0
-- Mode connectivity SGD (Mirzadeh et al. 2020, arXiv:2010.04495): one solution of several tasks that lies on low
-- straight lines from the solution of each.
return function(define, check, core)
  local told = require "nn.told"
  local record = require "probe.record"
  local descent = require "probe.descent"(check, core)
  local points = require "probe.points"(core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local fail = descent.fail

  local new = record.kind("mc_sgd", {
    text = function(r)
      local n, sum = math.min(#r.losses, 50), 0
      for k = #r.losses - n + 1, #r.losses do sum = sum + r.losses[k] end
      return ("MC-SGD over %d tasks, %d steps%s"):format(r.tasks, #r.losses, n > 0
        and ", loss of the last ones " .. record.short(sum / n) or "")
    end,
    rows = record.losses.rows,
    plot = record.losses.plot "MC-SGD",
  })

  define("probe.mc_sgd", "probe.mc_sgd({f_1, f_2, …}, {m_1, m_2, …}, {start =, points = 5, steps = 500, batch = 128, "
    .. "lr = 0.05, optimiser =, schedule =, seed = 0, journal =}) -> mc_sgd",
    "Mode connectivity SGD (Mirzadeh et al. 2020, arXiv:2010.04495) for tasks learned one after the other: r.model is "
    .. "trained so that each task's loss is low on the straight line from that task's own solution: the sum "
    .. "over tasks k of the mean over `points` places t, evenly from 1/points to 1, of L_k((1 - t) m_k + t theta). "
    .. "Question: is there a solution of all tasks that is linearly connected to each? f_k: net:loss(data of "
    .. "task k; of an old "
    .. "one the examples that were kept), or a function of a point; m_k: the solution of task k. The record has model "
    .. "and losses; probe.barrier(f_k, m_k, r.model) measures what it is for.\n"
    .. "  start: the first value; default: the mean of the m_k, near where the authors' program begins with two "
    .. "tasks (half or a tenth of the way from the earlier solution to the last)\n"
    .. "Compared with the authors' program: it keeps one earlier solution, that of all tasks before, with their kept "
    .. "examples as one loss (give { f_old, f_new } and { m_old, m_new }), takes t = 0 too, which moves nothing here, "
    .. "and adds the gradients of the points unweighted, where the gradient of the objective "
    .. "has the factor t.\n"
    .. "  the rest: as in probe.curve; with batches of each task in each step\n"
    .. "Reading it: barriers from each m_k to r.model near 0 say yes; the loss of the steps falls to the sum of the "
    .. "tasks' own.\n"
    .. "Cost: tasks times points gradients a step. Misleading: an old task whose few examples are kept is fitted to "
    .. "these; measure on held-out data.",
    "local function f(x) return (x[1] - x[2]) ^ 2 end  -- a valley for each task; they cross at 1, 1\n"
    .. "local function g(x) return (x[1] + x[2] - 2) ^ 2 end\n"
    .. "local r = probe.mc_sgd({ f, g }, { tensor { 0, 0 }, tensor { 0, 2 } }, { steps = 200 })\n"
    .. "print((r.model - tensor { 1, 1 }):norm() < 0.01)\n-- > true",
    told(function(tasks, solutions, o)
      local what = "probe.mc_sgd"
      o = descent.check(what, o, { "start", "points" })
      for _, name in ipairs { "data", "epochs", "log", "weight_decay", "loss", "label_smoothing", "ignore_index" } do
        if o[name] ~= nil then fail(what, "%s is not an option here", name) end
      end
      if type(tasks) ~= "table" or #tasks == 0 then fail(what, "expected a list of losses, one for each task") end
      if type(solutions) ~= "table" or #solutions ~= #tasks then
        fail(what, "expected %d solutions, one for each task", #tasks)
      end
      local places, seed = points.count(what, "points", o.points or 5, 1), points.count(what, "seed", o.seed or 0, 0)
      local total, models, list = points.count(what, "steps", o.steps or 500, 0), {}, {}
      for k, m in ipairs(solutions) do models[k] = descent.loaded(what, m) end
      for k = 1, #tasks do
        local f = tasks[k]
        local own = { batch = core.kind(f) == "loss" and o.batch or nil }
        local source = descent.source(what, f, models[k], own)
        list[k] = { source = source, both = source.compiled and compile(source.both) or source.both,
          at = source.space.pack(models[k]) }
      end
      local space, vectors = list[1].source.space, {}
      for k, task in ipairs(list) do
        if task.at:numel() ~= space.n then fail(what, "solutions 1 and %d have other shapes", k) end
        vectors[k] = task.at
      end
      local opt, rate = descent.optimiser(what, o, total, 0.05)
      local like = o.start and descent.loaded(what, o.start) or models[#models]
      local draw <close> = progress(what, total, "steps")
      local j <close> = journal.open(what, o, { tasks, solutions }, draw)

      -- One step from s: free, state, losses.
      local function step(s, i)
        local batches = {}
        for k, task in ipairs(list) do batches[k] = { task.next() } end
        local value
        local function gradient(theta)
          local g
          value = 0
          for k, task in ipairs(list) do
            local _, batch, key = table.unpack(batches[k])
            for p = 1, places do
              local t = p / places
              local v, d = task.both((1 - t) * task.at + t * theta, task.source.rest, batch, key)
              value = value + (type(v) == "number" and v or v:item()) / places
              g = g and g + (t / places) * d or (t / places) * d
            end
          end
          return { theta = g }
        end
        local g = gradient(s.free.theta)
        local here = value
        if opt.ascend then g = gradient(opt:ascend(s.free, g).theta) end
        if here ~= here or math.abs(here) == math.huge then
          fail(what, "the loss is not finite at step %d; a smaller rate may help", i)
        end
        s.free, s.state = opt:apply(s.free, g, s.state, rate(i - 1), i, opt:phase(i))
        s.losses[i], s.done = here, i
      end

      local trained = j.loop({ "theta" }, function(loop)
        local s = loop.state
        if not s then
          local free = { theta = o.start and space.pack(o.start) or descent.mean(vectors) }
          s = { done = 0, free = free, state = opt:init(free), losses = {} }
        end
        for k, task in ipairs(list) do task.next = task.source.batches(total, seed + k, s.done + 1) end
        for i = s.done + 1, total do
          step(s, i)
          draw(i)
          loop.keep(function() return s end)
        end
        return { theta = s.free.theta, losses = s.losses }
      end)
      return new { model = space.point(trained.theta, like, like, 0), losses = trained.losses, tasks = #tasks }
    end))
end
