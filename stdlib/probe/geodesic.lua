-- SPDX-License-Identifier: Apache-2.0
-- Shortest paths in the space of predictions (Tan et al. 2023, arXiv:2308.12666): a chain of networks whose neighbours
-- predict nearly the same.
return function(define, check, core)
  local told = require "nn.told"
  local net_of = require "nn.net"
  local descent = require "probe.descent"(check, core)
  local points = require "probe.points"(core)
  local curves = require "probe.curves"(check, core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local fail = descent.fail

  -- The Jensen-Shannon divergence of two lists of distributions (over the last dimension), in nats, as a mean.
  local function divergence(p, log_p, q, log_q)
    local log_m = ((p + q) * 0.5):maximum(1e-30):log()
    local each = (p * (log_p - log_m) + q * (log_q - log_m)):sum { dim = -1 } * 0.5
    return type(each) == "number" and each or each:mean()
  end

  define("probe.geodesic", "probe.geodesic(f, a, b, {pivots = 5, data =, epochs = 10 or steps =, "
    .. "batch = 128, lr = 0.05, optimiser =, schedule =, seed = 0, …}) -> curve",
    "The shortest path between two networks where length is counted in predictions (Tan et al. 2023, arXiv:2308.12666; "
    .. "align b to a before). Question: can one walk from one solution to the other with little change of what is "
    .. "predicted? Pivots start on the straight line, and go down the sum over neighbours of the Jensen-Shannon "
    .. "divergence of their softmax outputs, which for near neighbours is an eighth of the squared Fisher-Rao "
    .. "distance; "
    .. "pieces come out equally long. (The sum of its roots is no substitute: one long jump makes that small.) "
    .. "f: a network with data (labels are not used), net:loss(data), or a function of a point (of point and "
    .. "batch, with "
    .. "data) that gives logits. The result is a curve of straight pieces (c(t), c:path, c.points) with length (sum of "
    .. "sqrt(8 JS) over the pieces: the Fisher-Rao length of the mean over examples), straight_length (that of as many "
    .. "pieces of the line) and steps_length (of each piece).\n"
    .. "  pivots: how many are trained between the ends\n"
    .. "  the rest: as in probe.curve\n"
    .. "Reading it: length near that of the distance of the ends' predictions says that the way is direct; c:path(f) "
    .. "tells whether the loss stays low on it. Cost: a gradient at every pivot a step. Misleading: only "
    .. "predictions on "
    .. "the data given count, and the ends of a path of few pivots may hide a barrier inside a piece.",
    "local function logits(x) return x:reshape { 1, 3 } end\n"
    .. "local a, b = tensor { 0, 0, 3 }, tensor { 3, 0, 0 }\n"
    .. "local c = probe.geodesic(logits, a, b, { pivots = 7, steps = 300, lr = 1 })\n"
    .. "print(c.length < c.straight_length)\n-- > true",
    told(function(f, a, b, o)
      local what = "probe.geodesic"
      o = descent.check(what, o, { "pivots" })
      if o.log or o.weight_decay then fail(what, "%s is not an option here", o.log and "log" or "weight_decay") end
      local source = descent.source(what, f, a, o)
      local space, n = source.space, points.count(what, "pivots", o.pivots or 5, 1)
      local total, seed = descent.steps(what, o, source, 10), points.count(what, "seed", o.seed or 0, 0)
      local opt, rate = descent.optimiser(what, o, total, 0.05)
      local first, last, root = space.pack(a), space.pack(b), source.net

      local function outputs(v, rest, batch, key, mode)
        if not root then
          if batch then return f(space.point(v), batch) end
          return f(space.point(v))
        end
        local all = space.unpack(v)
        for name, x in pairs(rest) do all[name] = x end
        return (net_of.run(root, all, batch, { mode = mode, key = key }))
      end
      -- The divergences of neighbours along first, free …, last.
      local function pieces(free, ends, rest, batch, key, mode)
        local out, before, log_before = {}, nil, nil
        for k = 0, n + 1 do
          local v = k == 0 and ends[1] or k == n + 1 and ends[2] or free[tostring(k)]
          local z = outputs(v, rest, batch, key, mode)
          if core.kind(z) ~= "tensor" then fail(what, "the function gives a %s, not logits", core.kind(z)) end
          local log_p = z:log_softmax(-1)
          local p = log_p:exp()
          if k > 0 then out[k] = divergence(before, log_before, p, log_p) end
          before, log_before = p, log_p
        end
        return out
      end
      local function energy(free, ends, rest, batch, key)
        local sum = 0.0
        for _, js in ipairs(pieces(free, ends, rest, batch, key, "train")) do sum = sum + js end
        return sum
      end
      local function step(free, state, ends, rest, batch, rate_now, t, key, phase)
        local value, g = value_and_grad(function(x) return energy(x, ends, rest, batch, key) end, free)
        if opt.ascend then
          local there = opt:ascend(free, g)
          g = grad(function(x) return energy(x, ends, rest, batch, key) end, there)
        end
        local new, new_state = opt:apply(free, g, state, rate_now, t, phase)
        return new, new_state, value
      end
      local run = source.compiled and compile(step, { donate = { 2 } }) or step

      local free, line, ends = {}, {}, { first, last }
      for k = 1, n do
        local t = k / (n + 1)
        free[tostring(k)] = (1 - t) * first + t * last
        line[tostring(k)] = free[tostring(k)]
      end
      local draw <close> = progress(what, total, "steps")
      local j <close> = journal.open(what, o, { f, a, b }, draw)
      local trained = j.loop({ "pivots" }, function(loop)
        local s = loop.state or { done = 0, free = free, state = opt:init(free), losses = {} }
        for i, batch, key in source.batches(total, seed, s.done + 1) do
          local value
          s.free, s.state, value = run(s.free, s.state, ends, source.rest, batch, rate(i - 1) + 0.0, i, key,
            opt:phase(i))
          value = type(value) == "number" and value or value:item()
          if value ~= value or math.abs(value) == math.huge then
            fail(what, "the length is not finite at step %d; a smaller rate may help", i)
          end
          s.losses[i], s.done = value, i
          draw(i)
          loop.keep(function() return s end)
        end
        return { free = s.free, losses = s.losses }
      end)
      free = trained.free

      -- Lengths over all of the data.
      local measure = source.compiled and compile(function(x, rest, batch)
        return pieces(x, ends, rest, batch, nil, "eval")
      end) or function(x, rest, batch) return pieces(x, ends, rest, batch, nil, "eval") end
      local function lengths(x)
        local sums, rows = {}, 0
        local function add(batch, count)
          for k, js in ipairs(measure(x, source.rest, batch)) do
            sums[k] = (sums[k] or 0) + count * (type(js) == "number" and js or js:item())
          end
          rows = rows + count
        end
        local all = o.data or source.net and source.value.data
        if all then
          require "probe.over"(core).chunks(what, all, 1000, function(batch) add(batch, batch.x.shape[1]) end)
        else
          add(nil, 1)
        end
        local length = 0
        for k, js in ipairs(sums) do
          sums[k] = math.sqrt(math.max(0, 8 * js / rows))
          length = length + sums[k]
        end
        return length, sums
      end
      local bends = {}
      for k = 1, n do bends[k] = free[tostring(k)] end
      local c = curves.make { kind = "polychain", space = space, a = a, b = b, first = first, last = last,
        bends = bends, losses = trained.losses, steps = total }
      c.length, c.steps_length = lengths(free)
      c.straight_length = lengths(line)
      return c
    end))
end
