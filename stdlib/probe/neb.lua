-- SPDX-License-Identifier: Apache-2.0
-- Paths of least height: a chain of pivots between two solutions relaxes across its own direction (nudged elastic
-- band), and gets more pivots where it is too coarse (AutoNEB, Draxler et al. 2018, arXiv:1803.00885). Over several
-- minima the best paths make a spanning tree.
return function(define, check, core)
  local told = require "nn.told"
  local record = require "probe.record"
  local descent = require "probe.descent"(check, core)
  local points = require "probe.points"(core)
  local curves = require "probe.curves"(check, core)
  local progress = require "probe.progress"(core)
  local journal = require "probe.journal"(core)
  local fail, short, dot = descent.fail, record.short, descent.dot

  local own = { "pivots", "cycles", "spring", "tangent", "climb", "samples", "threshold", "insert", "bn" }

  -- ---- the chain ----

  -- chain: pivots p[1] … p[n] (vectors), shares[k]: of the length, wanted between p[k] and p[k + 1].
  local function lengths_of(p)
    local d = {}
    for k = 1, #p - 1 do d[k] = descent.distance(p[k], p[k + 1]) end
    return d
  end

  -- Pivots first … last moved along the polyline to the shares wanted there.
  local function redistribute(p, shares, first, last)
    local at, wanted, moved = { 0 }, { 0 }, {}
    for k = first, last - 1 do
      at[#at + 1] = at[#at] + descent.distance(p[k], p[k + 1])
      wanted[#wanted + 1] = wanted[#wanted] + shares[k]
    end
    local length, whole, segment = at[#at], wanted[#wanted], 1
    if length == 0 then return end
    for k = 2, #at - 1 do
      local s = wanted[k] / whole * length
      while segment < #at - 1 and at[segment + 1] < s do segment = segment + 1 end
      local w = (s - at[segment]) / (at[segment + 1] - at[segment])
      local from = p[first + segment - 1]
      moved[k] = from + w * (p[first + segment] - from)
    end
    for k, v in pairs(moved) do p[first + k - 1] = v end
  end

  local function unit(v)
    local size = math.sqrt(dot(v, v))
    return size > 0 and v * (1 / size) or v
  end

  -- The direction of the chain at a pivot (Henkelman and Jonsson 2000): towards the higher neighbour; at extrema both
  -- secants, the one on the higher side with the larger weight (`lower`: with the smaller one).
  local function tangent_of(before, here, after, v_before, v, v_after, lower)
    local ahead, behind = unit(after - here), unit(here - before)
    if v_after > v and v > v_before then return ahead end
    if v_after < v and v < v_before then return behind end
    local up, down = math.abs(v_after - v), math.abs(v_before - v)
    local most, least = math.max(up, down), math.min(up, down)
    if most == 0 then most, least = 1, 1 end
    local w = v_after > v_before and most or least
    local rest = v_after > v_before and least or most
    if lower then w, rest = rest, w end
    return unit(w * ahead + rest * behind)
  end

  -- One run of the chain with one rate. o: steps, lr, number (of the run), climber (the pivot that climbs, or nil);
  -- loop: of a journal; from: its state, if it is of this run.
  local function relax(s, chain, o, loop, from)
    local p, n = chain.p, #chain.p
    local opt, rate = descent.optimiser(s.what, { optimiser = s.optimiser, lr = o.lr,
      schedule = function() return o.lr end }, o.steps, o.lr)
    local free = {}
    for k = 2, n - 1 do free[tostring(k)] = p[k] end
    local state, decay, stiff = from and from.state or opt:init(free), s.weight_decay, s.spring == math.huge
    for i, batch, key in s.source.batches(o.steps, s.seed + s.taken, from and from.step + 1 or 1) do
      if stiff then
        redistribute(p, chain.shares, 1, o.climber or n)
        if o.climber then redistribute(p, chain.shares, o.climber, n) end
      end
      local value, slope = {}, {}
      for k = 1, n do
        local v, g
        if batch or k > 1 and k < n or not chain[k] then
          v, g = s.both(p[k], s.source.rest, batch, key)
          if type(v) ~= "number" then v = v:item() end
          if v ~= v or math.abs(v) == math.huge then
            fail(s.what, "the loss is %s at pivot %d, step %d; a smaller rate may help",
              v ~= v and "nan" or tostring(v), k, s.taken + i)
          end
          if decay ~= 0 then v, g = v + 0.5 * decay * dot(p[k], p[k]), g + decay * p[k] end
        end
        value[k], slope[k] = v or chain[k], g
      end
      if not batch then chain[1], chain[n] = value[1], value[n] end -- the ends stay
      local d = not stiff and lengths_of(p)
      local whole = 0
      for k = 1, d and n - 1 or 0 do whole = whole + d[k] end
      local forces = {}
      for k = 2, n - 1 do
        local along = tangent_of(p[k - 1], p[k], p[k + 1], value[k - 1], value[k], value[k + 1], s.lower)
        local g, slide = slope[k], dot(slope[k], along)
        if k == o.climber then
          slide = 2 * slide
        elseif d then
          slide = slide - s.spring * ((d[k - 1] - chain.shares[k - 1] * whole) - (d[k] - chain.shares[k] * whole))
        end
        forces[tostring(k)] = g - slide * along
      end
      for k = 2, n - 1 do free[tostring(k)] = p[k] end
      free, state = opt:apply(free, forces, state, rate(i - 1), i, opt:phase(i))
      for k = 2, n - 1 do p[k] = free[tostring(k)] end
      s.draw(s.done + i)
      loop.keep(function()
        return { number = o.number, step = i, climber = o.climber, state = state, p = p, shares = chain.shares,
          first = chain[1], last = chain[n], taken = s.taken, done = s.done }
      end)
    end
    s.taken, s.done = s.taken + o.steps, s.done + o.steps
  end

  -- ---- more pivots ----

  -- Positions along the chain by arc length, from 0 to 1.
  local function knots_of(p)
    local d, at = lengths_of(p), { 0.0 }
    for k, x in ipairs(d) do at[k + 1] = at[k] + x end
    local whole = at[#at]
    for k = 1, #at do at[k] = whole > 0 and at[k] / whole or (k - 1) / (#at - 1) end
    at[#at] = 1.0
    return at
  end

  -- The loss at every pivot and at `samples` places between each two: {t, loss, segment, share in it}.
  local function profile(s, chain)
    local knots, list = knots_of(chain.p), {}
    for k = 1, #knots do
      for j = 0, k < #knots and s.samples or 0 do
        local w = j / (s.samples + 1)
        local t = j == 0 and knots[k] or knots[k] + w * (knots[k + 1] - knots[k])
        local v = j == 0 and chain.p[k] or chain.p[k] + w * (chain.p[k + 1] - chain.p[k])
        local m = k == 1 and j == 0 and s.a or k == #knots and s.b or s.source.space.point(v, s.a, s.b, t)
        list[#list + 1] = { t = t, model = m, segment = k, share = w }
      end
    end
    local values = s.evaluate.all(#list, function(k) return list[k].model, { list[k].t } end)
    for k, q in ipairs(list) do q.loss, q.model = values[k].loss, nil end
    return list
  end

  -- New pivots where the loss stands furthest above the line between its pivots.
  local function refine(s, chain)
    local list, low, high, worst, at = profile(s, chain), math.huge, -math.huge, {}, {}
    for _, q in ipairs(list) do
      low, high = math.min(low, q.loss), math.max(high, q.loss)
      if q.share == 0 then at[q.segment] = q.loss end
    end
    for _, q in ipairs(list) do
      if q.share > 0 then
        local above = q.loss - ((1 - q.share) * at[q.segment] + q.share * at[q.segment + 1])
        local best = worst[q.segment]
        if above > s.threshold * (high - low) and (not best or above > best.above) then
          worst[q.segment] = { above = above, segment = q.segment, share = q.share }
        end
      end
    end
    local chosen = {}
    for _, q in pairs(worst) do chosen[#chosen + 1] = q end
    table.sort(chosen, function(x, y)
      if x.above ~= y.above then return x.above > y.above end
      return x.segment < y.segment
    end)
    for k = #chosen, s.insert + 1, -1 do chosen[k] = nil end
    table.sort(chosen, function(x, y) return x.segment > y.segment end)
    for _, q in ipairs(chosen) do
      local p, k = chain.p, q.segment
      table.insert(p, k + 1, p[k] + q.share * (p[k + 1] - p[k]))
      local share = chain.shares[k]
      chain.shares[k] = share * q.share
      table.insert(chain.shares, k + 1, share * (1 - q.share))
    end
    if #chosen > 0 then chain[#chain.p], chain[#chain.p - #chosen] = chain[#chain.p - #chosen], nil end
    return #chosen
  end

  -- ---- one path ----

  local default_cycles = { { steps = 300, lr = 0.1 }, { steps = 300, lr = 0.1 }, { steps = 300, lr = 0.01 },
    { steps = 300, lr = 0.001 } }

  local function cycles_of(what, o)
    local list, out = o.cycles or default_cycles, {}
    if core.kind(list) ~= "table" or #list == 0 then fail(what, "cycles is a list of {steps =, lr =}") end
    for k, c in ipairs(list) do
      if core.kind(c) ~= "table" or math.type(c.steps) ~= "integer" or c.steps < 1 or type(c.lr) ~= "number" then
        fail(what, "cycles[%d] is {steps = a whole number, lr = a rate}", k)
      end
      out[k] = c
    end
    local climb = o.climb
    if type(climb) == "number" then climb = { steps = climb, lr = out[#out].lr } end
    if climb and (core.kind(climb) ~= "table" or math.type(climb.steps) ~= "integer" or type(climb.lr) ~= "number") then
      fail(what, "climb is a number of steps, or {steps =, lr =}")
    end
    return out, climb
  end

  local function opened(what, f, like, o)
    local source = descent.source(what, f, like, o)
    local s = { what = what, source = source, both = source.compiled and compile(source.both) or source.both,
      optimiser = o.optimiser, weight_decay = o.weight_decay or 0, seed = points.count(what, "seed", o.seed or 0, 0),
      spring = o.spring or math.huge, lower = o.tangent == "lower", taken = 0,
      samples = points.count(what, "samples", o.samples or 9, 1), threshold = o.threshold or 0.1,
      insert = points.count(what, "insert", o.insert or 2, 0), pivots = points.count(what, "pivots", o.pivots or 3, 1) }
    if o.tangent and o.tangent ~= "higher" and o.tangent ~= "lower" then
      fail(what, "tangent = %q; expected \"higher\" or \"lower\"", tostring(o.tangent))
    end
    if type(s.spring) ~= "number" or s.spring < 0 then fail(what, "spring is a number, or math.huge") end
    s.cycles, s.climb = cycles_of(what, o)
    s.total = s.climb and s.climb.steps or 0
    for _, c in ipairs(s.cycles) do s.total = s.total + c.steps end
    s.done, s.evaluate = 0, points.open(what, source.value, { bn = o.bn })
    return s
  end

  -- Pivots, and the profile along them, of the chain from `first` to `last` (vectors); loop: of a journal.
  local function relaxed(s, first, last, loop)
    local chain, n, from = { p = { first }, shares = {} }, s.pivots + 1, loop.state
    for k = 1, n do
      chain.p[k + 1] = k == n and last or first + (k / n) * (last - first)
      chain.shares[k] = 1 / n
    end
    if from then
      chain.p, chain.shares, s.taken, s.done = from.p, from.shares, from.taken, from.done
      chain[1], chain[#chain.p] = from.first, from.last
    end
    local reached = from and from.number or 0
    for k, cycle in ipairs(s.cycles) do
      if k > 1 and k > reached then refine(s, chain) end
      if k >= reached then
        relax(s, chain, { steps = cycle.steps, lr = cycle.lr, number = k }, loop, k == reached and from)
      end
    end
    if s.climb then
      local climb, top = #s.cycles + 1, nil
      for _, q in ipairs(reached < climb and profile(s, chain) or {}) do
        if q.share == 0 and q.segment > 1 and q.segment < #chain.p and (not top or q.loss > top.loss) then top = q end
      end
      relax(s, chain, { steps = s.climb.steps, lr = s.climb.lr, number = climb,
        climber = top and top.segment or from.climber }, loop, climb == reached and from)
    end
    local t, loss = {}, {}
    for k, q in ipairs(profile(s, chain)) do t[k], loss[k] = q.t, q.loss end
    return { p = chain.p, t = t, loss = loss, taken = s.taken, done = s.done }
  end

  local function band(s, a, b, key)
    local first, last = s.source.space.pack(a), s.source.space.pack(b)
    s.a, s.b, s.taken = points.loaded(s.what, a), points.loaded(s.what, b), 0
    if s.evaluate.bn == "keep" then s.evaluate.like(s.a) end
    if descent.distance(first, last) == 0 then fail(s.what, "the ends are the same") end
    local got = s.journal.loop(key, function(loop) return relaxed(s, first, last, loop) end)
    s.taken, s.done = got.taken, got.done
    local bends = {}
    for k = 2, #got.p - 1 do bends[k - 1] = got.p[k] end
    local r = curves.make { kind = "neb", knots = knots_of(got.p), space = s.source.space, a = s.a, b = s.b,
      first = first, last = last, bends = bends }
    r.t, r.loss, r.losses, r.steps = got.t, got.loss, {}, s.taken
    for k, v in ipairs(r.loss) do
      if not r.saddle or v > r.saddle then r.saddle, r.saddle_t = v, r.t[k] end
    end
    local bn = s.evaluate.bn
    r.path_points, r.bn = { t = r.t, loss = r.loss }, bn
    return r
  end

  local common = "  pivots: how many there are between the ends at first\n"
    .. "  cycles: { {steps =, lr =}, … }; before each but the first up to `insert` = 2 pivots come in where the loss, "
    .. "sampled at `samples` = 9 places between pivots, is above the line between them by more than `threshold` = 0.1 "
    .. "of its range. Default: 300 steps each at 0.1, 0.1, 0.01, 0.001; the authors take 14 cycles of 1000 and more\n"
    .. "  spring: math.huge (the authors' choice) moves pivots along the chain to their places before each step; a "
    .. "number is the stiffness of springs between them\n"
    .. "  tangent: \"higher\" (Henkelman, Jonsson 2000: at extrema the secant on the higher side counts more) or "
    .. "\"lower\" (as the authors' program has it)\n"
    .. "  climb: so many steps at the end, or {steps =, lr =}, in which the highest pivot climbs against the path to "
    .. "the saddle itself (Henkelman, Uberuaga, Jonsson 2000); meant for full gradients\n"
    .. "  optimiser: by default SGD with momentum 0.9, begun anew in each cycle; its rate is that of the cycle\n"
    .. "  data, batch, seed, weight_decay, loss, journal: as in probe.curve; one batch a step for all pivots. bn: as "
    .. "in probe.path, for the heights\n"

  define("probe.neb", "probe.neb(f, a, b, {pivots = 3, cycles =, spring = math.huge, tangent = \"higher\", climb =, "
    .. "samples = 9, threshold = 0.1, insert = 2, data =, batch = 128, seed = 0, bn =, "
    .. "journal =, …}) -> curve",
    "The path of least height from a to b (AutoNEB: Draxler et al. 2018, arXiv:1803.00885). Question: how high is the "
    .. "pass between two solutions? Pivots go down the loss across the direction of the chain only, so that it comes "
    .. "to rest on a path of steepest descent through a saddle. f: as in probe.curve. The result is a curve (c(t), "
    .. "c.points, c:path), t the share of its length, with saddle and saddle_t (the highest of pivots and samples), t "
    .. "and loss of them, and knots (t of the pivots); c:plot() is its profile.\n" .. common
    .. "Reading it: saddle against the loss of the ends. Cost: a gradient at every pivot a step. Misleading: the pass "
    .. "found is the one next to the straight line, not the lowest of all: probe.saddles goes around over other "
    .. "minima; the loss of a batch stands in for the whole in training.",
    "local function f(x) return (x[1]^2 - 1)^2 + 2 * (x[2] - 0.8 * (1 - x[1]^2))^2 end\n"
    .. "local c = probe.neb(f, tensor { -1, 0 }, tensor { 1, 0 }, { climb = 100, cycles = { { steps = 100, lr = "
    .. "0.02 } } "
    .. "})\nprint((\"%.3f\"):format(c.saddle), (\"%.3f\"):format(c.points[3][2]))\n-- > 1.000\t0.800",
    told(function(f, a, b, o)
      local what = "probe.neb"
      o = descent.check(what, o, own)
      for _, name in ipairs { "epochs", "steps", "lr", "schedule", "log" } do
        if o[name] ~= nil then fail(what, "%s: steps and rates are in cycles", name) end
      end
      local s = opened(what, f, a, o)
      local draw <close> = progress(what, s.total, "steps")
      local j <close> = journal.open(what, o, { f, a, b }, draw)
      s.draw, s.journal = draw, j
      return band(s, a, b, { "band" })
    end))

  -- ---- many minima ----

  -- Tree of least saddles over the edges known (Kruskal), and the component of each minimum.
  local function spanning(n, edges)
    local root, tree, sorted = {}, {}, { table.unpack(edges) }
    for k = 1, n do root[k] = k end
    local function find(k)
      while root[k] ~= k do k = root[k] end
      return k
    end
    table.sort(sorted, function(x, y)
      if x.saddle ~= y.saddle then return x.saddle < y.saddle end
      if x.a ~= y.a then return x.a < y.a end
      return x.b < y.b
    end)
    for _, e in ipairs(sorted) do
      local p, q = find(e.a), find(e.b)
      if p ~= q then
        root[p], tree[#tree + 1] = q, e
      end
    end
    return tree, find
  end

  -- The next pair: one that joins a minimum to the lowest one's component; then one that may replace the highest edge
  -- of the tree, then the next highest.
  local function next_pair(n, edges, tried, loss, lowest)
    local tree, find = spanning(n, edges)
    for k = 1, n do
      if find(k) ~= find(lowest) then
        if not tried[lowest][k] then return lowest, k end
      end
    end
    table.sort(tree, function(x, y) return x.saddle > y.saddle end)
    for _, worst in ipairs(tree) do
      local others = {}
      for _, e in ipairs(tree) do others[#others + 1] = e ~= worst and e or nil end
      local _, side = spanning(n, others)
      local best
      for i = 1, n do
        for j = i + 1, n do
          local across = side(i) == side(worst.a) and side(j) == side(worst.b)
            or side(i) == side(worst.b) and side(j) == side(worst.a)
          local height = math.max(loss[i], loss[j])
          if across and not tried[i][j] and height < worst.saddle and (not best or height < best[3]) then
            best = { i, j, height }
          end
        end
      end
      if best then return best[1], best[2] end
    end
  end

  -- The height of the best known path between every two: the highest edge on the way through the tree.
  local function heights(n, tree, loss)
    local h = {}
    for i = 1, n do
      h[i] = {}
      for j = 1, n do h[i][j] = i == j and loss[i] or math.huge end
    end
    local group = {}
    for k = 1, n do group[k] = { k } end
    for _, e in ipairs(tree) do -- from the lowest up
      local x, y = group[e.a], group[e.b]
      for _, i in ipairs(x) do
        for _, j in ipairs(y) do h[i][j], h[j][i] = e.saddle, e.saddle end
      end
      for _, j in ipairs(y) do x[#x + 1] = j end
      for _, j in ipairs(x) do group[j] = x end
    end
    return h
  end

  local new_saddles = record.kind("saddles", {
    text = function(r)
      local rows = {}
      for k, e in ipairs(r.tree) do
        rows[k] = { ("%d - %d"):format(e.a, e.b), short(e.saddle), short(r.loss[e.a]), short(r.loss[e.b]) }
      end
      return ("saddles: %d minima, %d paths; the tree of the lowest ones\n%s"):format(#r.loss, #r.edges,
        record.columns({ "edge", "saddle", "loss", "loss" }, rows))
    end,
    rows = function(r)
      local rows = {}
      for k, e in ipairs(r.edges) do rows[k] = { e.a, e.b, e.saddle, e.in_tree } end
      return { "a", "b", "saddle", "in_tree" }, rows
    end,
    plot = function(r, o) return plot.tree(r:topology(), o) end,
    methods = { topology = function(r)
      local values, edges = { table.unpack(r.loss) }, {}
      for _, e in ipairs(r.tree) do
        values[#values + 1] = math.max(e.saddle, r.loss[e.a], r.loss[e.b])
        edges[#edges + 1], edges[#edges + 2] = { e.a, #values }, { #values, e.b }
      end
      return probe.topology(values, { edges = edges })
    end },
  })

  define("probe.saddles", "probe.saddles(f, {m, …}, {pairs =, options of probe.neb}) -> saddles",
    "Several minima and the lowest paths between them: probe.neb over pairs, and the minimum spanning tree over the "
    .. "heights (Draxler et al. 2018, arXiv:1803.00885). Question: are all solutions found one connected "
    .. "region, and at "
    .. "which height? Each minimum is first joined to the lowest one; then the highest edge of the tree is tried to be "
    .. "replaced by a pair of its two sides that has not been tried, as long as there is one that could be lower. The "
    .. "record has loss (of the minima), edges { {a, b, saddle, curve, in_tree}, … }, tree (its edges, lowest first), "
    .. "heights (a matrix: the highest edge on the way through the tree), r:topology() (probe.topology: the tree as "
    .. "one of basins) and r:plot().\n"
    .. "  pairs: how many paths are made at most; default: as many as may lower the tree\n"
    .. common
    .. "Reading it: heights near the loss of the minima say one region. Cost: a band for every pair. Misleading: "
    .. "heights are upper bounds; a pair that was not tried may have a lower path.",
    "local function f(x) return 2 - x[1]:cos() * x[2]:cos() - (x[1]:cos() + x[2]:cos()) / 2 end\n"
    .. "local pi = math.pi\n"
    .. "local r = probe.saddles(f, { tensor { 0, 0 }, tensor { 2 * pi, 0 }, tensor { pi, pi } },\n"
    .. "  { cycles = { { steps = 40, lr = 0.2 } }, climb = 60, optimiser = train.sgd { lr = 1 } })\n"
    .. "print(#r.tree, (\"%.3f\"):format(r.heights[1][2]))\n-- > 2\t2.250",
    told(function(f, minima, o)
      local what = "probe.saddles"
      local names = { table.unpack(own) }
      names[#names + 1] = "pairs"
      o = descent.check(what, o, names)
      if type(minima) ~= "table" or #minima < 2 then fail(what, "expected a list of at least two minima") end
      for _, name in ipairs { "epochs", "steps", "lr", "schedule", "log" } do
        if o[name] ~= nil then fail(what, "%s: steps and rates are in cycles", name) end
      end
      local n, most = #minima, o.pairs and points.count(what, "pairs", o.pairs, 1) or math.maxinteger
      local s = opened(what, f, minima[1], o)
      local draw <close> = progress(what, nil, "steps")
      local j <close> = journal.open(what, o, { f, minima }, draw)
      s.draw, s.journal = draw, j
      local loss, tried, edges, lowest = {}, {}, {}, 1
      for k, m in ipairs(minima) do
        loss[k] = j.once({ "loss", k }, function() return s.evaluate.at(points.loaded(what, m), { k }).loss end)
        tried[k] = {}
        if loss[k] < loss[lowest] then lowest = k end
      end
      while #edges < most do
        local i, k = next_pair(n, edges, tried, loss, lowest)
        if not i then break end
        local curve = band(s, minima[i], minima[k], { "band", i, k })
        edges[#edges + 1] = { a = i, b = k, saddle = curve.saddle, curve = curve, in_tree = false }
        tried[i][k], tried[k][i] = true, true
      end
      local tree = spanning(n, edges)
      for _, e in ipairs(tree) do e.in_tree = true end
      return new_saddles { loss = loss, edges = edges, tree = tree, heights = heights(n, tree, loss), lowest = lowest }
    end))
  define("saddles:topology", "r:topology() -> topology",
    "The tree of probe.saddles as a merge tree: minima and the saddles they join at (probe.topology).",
    "local function f(x) return (x[1] ^ 2 - 1) ^ 2 end\n"
    .. "local r = probe.saddles(f, { tensor { -1 }, tensor { 1 } }, { cycles = { { steps = 1, lr = 0.01 } } })\n"
    .. "print(r:topology().minima, r:topology().pairs[1].saddle)\n-- > 2\t1.0",
    new_saddles({}).topology)
end
