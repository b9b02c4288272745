-- SPDX-License-Identifier: Apache-2.0
-- Simplexes of solutions: volumes of low loss between solutions that are there (SPRO and ESPRO: Benton et al. 2021,
-- arXiv:2102.13042), and subspaces that are trained as a whole (Wortsman et al. 2021, arXiv:2102.10472).
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local record = require "probe.record"
  local descent = require "probe.descent"(check, core)
  local points = require "probe.points"(core)
  local journal = require "probe.journal"(core)
  local curves = require "probe.curves"(check, core)
  local net_of = require "nn.net"
  local fail, short, dot = descent.fail, record.short, descent.dot

  -- ---- volumes ----

  -- The determinant of a small matrix, by elimination with pivots; m is spent.
  local function determinant(m)
    local n, sign = #m, 1.0
    for k = 1, n do
      local best = k
      for i = k + 1, n do
        if math.abs(m[i][k]) > math.abs(m[best][k]) then best = i end
      end
      if m[best][k] == 0 then return 0.0 end
      if best ~= k then m[best], m[k], sign = m[k], m[best], -sign end
      for i = k + 1, n do
        local w = m[i][k] / m[k][k]
        for j = k + 1, n do m[i][j] = m[i][j] - w * m[k][j] end
      end
      sign = sign * m[k][k]
    end
    return sign
  end

  -- Of vertices as vectors: |det| / (k!^2 2^k) of squared distances bordered by ones is the volume squared. Distances
  -- are taken in units of the largest.
  local function volume(list)
    local n, most, d = #list, 0, {}
    if n == 1 then return 1.0 end
    for i = 1, n do
      d[i] = d[i] or {}
      d[i][i] = 0.0
      for j = i + 1, n do
        d[j] = d[j] or {}
        local x = descent.distance(list[i], list[j])
        d[i][j], d[j][i], most = x, x, math.max(most, x)
      end
    end
    if most == 0 then return 0.0 end
    local m = { { 0.0 } }
    for i = 1, n do
      m[1][i + 1], m[i + 1] = 1.0, { 1.0 }
      for j = 1, n do m[i + 1][j + 1] = (d[i][j] / most) ^ 2 end
    end
    local k, factorial = n - 1, 1.0
    for j = 2, k do factorial = factorial * j end
    return math.sqrt(math.abs(determinant(m)) / (factorial ^ 2 * 2 ^ k)) * most ^ k
  end

  -- x of G x = y for a small symmetric matrix; directions without extent count for nothing.
  local function solved(g, y)
    local n, m = #y, {}
    for i = 1, n do
      m[i] = { table.unpack(g[i]) }
      m[i][n + 1] = y[i]
    end
    for k = 1, n do
      local best = k
      for i = k + 1, n do
        if math.abs(m[i][k]) > math.abs(m[best][k]) then best = i end
      end
      m[k], m[best] = m[best], m[k]
      for i = 1, n do
        if i ~= k and m[k][k] ~= 0 then
          local w = m[i][k] / m[k][k]
          for j = k, n + 1 do m[i][j] = m[i][j] - w * m[k][j] end
        end
      end
    end
    local x = {}
    for k = 1, n do x[k] = m[k][k] ~= 0 and m[k][n + 1] / m[k][k] or 0.0 end
    return x
  end

  -- The simplex over a face and one more vertex: function(vertex) -> volume, its gradient. It grows with the height
  -- above the face, which rises along the part of the vertex that is at right angles to it.
  local function above(face)
    local base, edges, gram = volume(face), {}, {}
    for j = 2, #face do edges[j - 1] = face[j] - face[1] end
    for i, u in ipairs(edges) do
      gram[i] = {}
      for j, v in ipairs(edges) do gram[i][j] = dot(u, v) end
    end
    return function(vertex, flat)
      local r = vertex - face[1]
      for _ = 1, 2 do -- the second time takes off what rounding left
        local y = {}
        for j, u in ipairs(edges) do y[j] = dot(u, r) end
        for j, x in ipairs(solved(gram, y)) do r = r - x * edges[j] end
      end
      local height = math.sqrt(dot(r, r))
      -- In the face itself any direction is as good as another.
      if height == 0 then
        r = flat()
        return 0.0, r * (base / #face / math.sqrt(dot(r, r)))
      end
      return base * height / #face, r * (base / #face / height)
    end
  end

  define("probe.volume", "probe.volume({m, …}) -> number",
    "How much room do models span? The volume of the simplex over them (or tensors, or tables of tensors): the "
    .. "length of two, the area of three, …, from their distances (Cayley and Menger). The program of Benton et al. "
    .. "calls the square of it volume. Cost: a distance for each pair. Misleads: volumes of different numbers of "
    .. "models have different units, and read 0 where the models lie in a plane of less dimensions.",
    "print(probe.volume { tensor { 0, 0 }, tensor { 3, 0 }, tensor { 0, 4 } })\n-- > 6.0",
    told(function(list)
      local what = "probe.volume"
      if type(list) ~= "table" or #list == 0 then fail(what, "expected a list of models") end
      local space = descent.source(what, function() end, list[1], {}).space
      local vectors = {}
      for k, m in ipairs(list) do vectors[k] = space.pack(m) end
      return volume(vectors)
    end))

  -- ---- the record ----

  local function weighted(r, list)
    local s = r.vectors()
    if #list ~= #r.vertices then
      fail(r.kind, "expected %d weights, one for each vertex, got %d", #r.vertices, #list)
    end
    local parts, models, only = {}, {}, nil
    for k, w in ipairs(list) do
      if w ~= 0 then only = only == nil and k end -- false: there are others
      parts[k], models[k] = { w, s.list[k] }, { w, r.vertices[k] }
    end
    if only and list[only] == 1 then return r.vertices[only] end -- to the bit
    local v = points.sum(parts)
    if not s.space.rest or next(s.space.rest) == nil then return s.space.point(v, s.like, s.like, 0) end
    local buffers = points.sum(models) -- running statistics are averaged as the rest is
    return s.space.point(v, buffers, buffers, 0)
  end

  local function methods_of()
    local methods = {}
    -- n models, uniformly from the simplex, of a complex from one of its simplexes each.
    function methods.sample(r, n, seed)
      local out = {}
      for i = 1, points.count("simplex:sample", "n", n, 1) do
        local which = r.simplexes[math.floor(descent.uniform(seed or 0, 2 * i, 1)[1] * #r.simplexes) + 1]
        local w, all = descent.dirichlet(seed or 0, 2 * i + 1, #which), {}
        for k = 1, #r.vertices do all[k] = 0.0 end
        for k, vertex in ipairs(which) do all[vertex] = w[k] end
        out[i] = weighted(r, all)
      end
      return out
    end
    function methods.centre(r)
      local w = {}
      for k = 1, #r.vertices do w[k] = 1 / #r.vertices end
      return weighted(r, w)
    end
    return methods
  end

  local new = record.kind("simplex", {
    text = function(r)
      local words = { ("%d vertices"):format(#r.vertices) }
      if #r.simplexes > 1 then words[#words + 1] = #r.simplexes .. " simplexes" end
      words[#words + 1] = "volume " .. short(r.volume)
      if r.cosine then words[#words + 1] = "cosine " .. short(r.cosine) end
      words[#words + 1] = #r.losses .. " steps"
      return "simplex of " .. table.concat(words, ", ")
    end,
    rows = record.losses.rows,
    plot = record.losses.plot "training of the simplex",
    methods = methods_of(),
    meta = { __call = function(r, w)
      local ok, m = pcall(weighted, r, w)
      if not ok then error(m, 2) end
      return m
    end },
  })

  local function volumes(simplexes, list)
    local sum = 0
    for _, which in ipairs(simplexes) do
      local corners = {}
      for k, vertex in ipairs(which) do corners[k] = list[vertex] end
      sum = sum + volume(corners)
    end
    return sum
  end

  -- ---- SPRO, ESPRO ----

  define("probe.simplex", "probe.simplex(f, {m, …}, {vertices = 2, lambda = 0.001, samples = 5, join = \"complex\", "
    .. "data =, epochs = 10 or steps =, batch = 128, lr = 0.01, optimiser =, schedule = \"cosine\", seed = 0, …}) -> "
    .. "simplex",
    "A volume of low loss (Benton et al. 2021, arXiv:2102.13042). Question: are solutions joined by more than a path? "
    .. "New vertices come in one after the other; each starts at the mean of the simplex and is trained alone, so that "
    .. "the mean loss of `samples` random points falls and the volume grows: mean of L(sum_i w_i v_i) - lambda "
    .. "log(V + 1e-4), w uniform. With one model (ESPRO) the simplex is a neighbourhood to draw ensembles from; with "
    .. "several (SPRO) each of them makes a simplex with all the new vertices, and the complex joins them. f: as in "
    .. "probe.curve. The record has vertices (models, those given first), simplexes (lists of their numbers), volume "
    .. "(the sum), volumes (after each new vertex), losses; r {w_1, …} is the model of these weights, r:sample(n, "
    .. "seed) are models from it, r:centre() is its mean.\n"
    .. "  vertices: how many are added; epochs, steps: for each of them\n"
    .. "  lambda: what volume is worth; 0: nothing\n"
    .. "  join: \"simplex\" takes all models and vertices as one simplex, for models that are joined by lines already\n"
    .. "  the rest: as in probe.curve (no log)\n"
    .. "Reading it: the loss at r:sample against that of the models; where volumes fall steeply the region has no more "
    .. "dimensions. Cost: samples gradients a step. "
    .. "Misleading: V is the volume itself and the loss a mean over the samples, where the authors' program has "
    .. "V^2 and "
    .. "a sum, so lambdas do not compare; a large one throws a new vertex, whose volume is 0 at first, far "
    .. "away; the loss is low where it is sampled, not everywhere.",
    "local function f(x) return x[1] ^ 2 end  -- a valley along the other two directions\n"
    .. "local s = probe.simplex(f, { tensor { 0, 0, 0 } }, { steps = 100 })\n"
    .. "print(#s.vertices, s.volume > 0.001, s:centre()[1] ^ 2 < 0.01)\n-- > 3\ttrue\ttrue",
    told(function(f, given, o)
      local what = "probe.simplex"
      o = descent.check(what, o, { "vertices", "lambda", "samples", "join" })
      expect(what, o, { lambda = "a number" })
      if type(given) ~= "table" or #given == 0 then fail(what, "expected a list of models") end
      if o.join and o.join ~= "complex" and o.join ~= "simplex" then
        fail(what, "join = %q; expected \"complex\" or \"simplex\"", tostring(o.join))
      end
      if o.log then fail(what, "log is not an option here: there is a run for each vertex") end
      local modes = {}
      for k, m in ipairs(given) do modes[k] = descent.loaded(what, m) end
      local source = descent.source(what, f, modes[1], o)
      local space, count = source.space, points.count(what, "vertices", o.vertices or 2, 1)
      local samples, lambda = points.count(what, "samples", o.samples or 5, 1), o.lambda or 0.001
      local seed, list, simplexes = points.count(what, "seed", o.seed or 0, 0), {}, {}
      if o.schedule == nil then o.schedule = "cosine" end
      local total = descent.steps(what, o, source, 10)
      for k, m in ipairs(modes) do list[k] = space.pack(m) end
      if o.join == "simplex" then
        simplexes[1] = {}
        for k = 1, #modes do simplexes[1][k] = k end
      else
        for k = 1, #modes do simplexes[k] = { k } end
      end
      local losses, grown = {}, {}
      local kept <close> = journal.open(what, o, { f, given })
      for added = 1, count do
        local opt, rate = descent.optimiser(what, o, total, 0.01)
        local faces = {}
        for k, which in ipairs(simplexes) do
          local corners = {}
          for j, vertex in ipairs(which) do corners[j] = list[vertex] end
          faces[k] = above(corners)
        end
        local own = seed * 1009 + added
        local function flat() return tensor.randn({ space.n }, own, { dtype = space.dtype }) end
        local free, new_losses = descent.train(source, opt, rate, {
          free = { descent.mean(list) }, fixed = list, steps = total, seed = own, journal = kept,
          key = { "vertex", added },
          weight_decay = o.weight_decay,
          draw = function(i)
            local out, pick = {}, descent.uniform(own, 2 * i, samples)
            for k = 1, samples do
              local which = simplexes[math.floor(pick[k] * #simplexes) + 1]
              local w = descent.dirichlet(own, (2 * i + 1) * samples + k, #which + 1)
              local sample = { 1 / samples, w[#which + 1] }
              for j = 1, #list do sample[j + 2] = 0.0 end
              for j, vertex in ipairs(which) do sample[vertex + 2] = w[j] end
              out[k] = sample
            end
            return out
          end,
          penalty = lambda ~= 0 and function(points_of)
            local v, g = 0, nil
            for _, face in ipairs(faces) do
              local own_volume, slope = face(points_of[1], flat)
              v, g = v + own_volume, g and g + slope or slope
            end
            return -lambda * math.log(v + 1e-4), { (-lambda / (v + 1e-4)) * g }
          end or nil })
        list[#list + 1] = free[1]
        table.move(new_losses, 1, #new_losses, #losses + 1, losses)
        for _, which in ipairs(simplexes) do which[#which + 1] = #list end
        grown[added] = volumes(simplexes, list)
      end
      local vertices = { table.unpack(modes) }
      for k = #modes + 1, #list do vertices[k] = space.point(list[k], modes[1], modes[1], 0) end
      return new { kind = "simplex", vertices = vertices, simplexes = simplexes, volume = grown[count],
        volumes = grown, losses = losses, vectors = function()
          return { list = list, space = space, like = modes[1] }
        end }
    end))

  -- ---- learned subspaces ----

  -- beta times the mean over pairs of cos^2, and its gradients.
  local function cosines(list, beta)
    local value, g, pairs_count, mean = 0, {}, #list * (#list - 1) / 2, 0
    local square = {}
    for k, v in ipairs(list) do square[k] = dot(v, v) end
    for i = 1, #list do
      for j = i + 1, #list do
        local size = math.sqrt(square[i] * square[j])
        local c = size > 0 and dot(list[i], list[j]) / size or 0
        local w = beta / pairs_count
        value, mean = value + w * c * c, mean + c / pairs_count
        if size > 0 then
          for _, pair in ipairs { { i, j }, { j, i } } do
            local u, v = pair[1], pair[2]
            local part = (2 * w * c / size) * list[v] - (2 * w * c * c / square[u]) * list[u]
            g[u] = g[u] and g[u] + part or part
          end
        end
      end
    end
    for k, v in ipairs(list) do g[k] = g[k] or 0 * v end
    return value, g, mean
  end

  define("probe.learned_subspace", "probe.learned_subspace(f, {vertices = 2, kind = \"simplex\", start =, beta = 1, "
    .. "data =, epochs = 10 or steps =, batch = 128, lr = 0.05, optimiser =, schedule =, weight_decay = 0, seed = 0, "
    .. "…}) -> simplex or curve",
    "A line, simplex or curve of networks that is trained as a whole, from scratch (Wortsman et al. 2021, "
    .. "arXiv:2102.10472): each step takes the gradient at a random point of it and hands every vertex its share; "
    .. "beta times the mean of cos^2 of the angles between vertices keeps it from falling together. Question: how "
    .. "wide can a region of solutions be made by training for it? The record is that of probe.simplex, with cosine "
    .. "(the mean at the end); r:centre() is a network as accurate as one trained alone, or more so.\n"
    .. "  kind: \"bezier\", \"polychain\" or \"quadratic\": a curve through the first and the last of the vertices, "
    .. "which are 3 then, all of them trained; beta keeps its ends apart, and the record is that of probe.curve\n"
    .. "  vertices: 2 is a line; they begin as net:init with the seeds seed, seed + 1, …; start: a list of models "
    .. "instead, which a function needs\n"
    .. "  the rest: as in probe.curve\n"
    .. "Reading it: centre against a network trained alone, and the loss at r:sample against both. Cost: that of "
    .. "training one network. Misleading: the ends of a line are seldom drawn, so they are its worst points; "
    .. "networks with batch norm need eval.bn_reset at every point.",
    "local net, d = nn.mlp { 2, 16, 2 }, data.two_moons { n = 200, seed = 1 }\n"
    .. "local line = probe.learned_subspace(net, { data = d, epochs = 60, batch = 20, lr = 0.2 })\n"
    .. "print(#line.vertices, eval.accuracy(net, d)(line:centre()) > 0.95)\n"
    .. "-- > 2\ttrue",
    told(function(f, o)
      local what = "probe.learned_subspace"
      o = descent.check(what, o, { "vertices", "kind", "start", "beta" })
      expect(what, o, { start = "a table" })
      local net = net_of.is(f) and f or core.kind(f) == "loss" and f.net or nil
      local bent = o.kind ~= nil and o.kind ~= "simplex"
      local least = bent and 3 or 2
      local count = points.count(what, "vertices", o.start and #o.start or o.vertices or least, least)
      if bent then curves.kind(what, o.kind, count - 2) end
      local seed, models = points.count(what, "seed", o.seed or 0, 0), {}
      if not o.start and not net then fail(what, "a function needs start = a list of points") end
      for k = 1, count do
        models[k] = points.loaded(what, o.start and o.start[k] or net:init { seed = seed + k - 1 })
      end
      local source = descent.source(what, f, models[1], o)
      local space, free = source.space, {}
      for k, m in ipairs(models) do free[k] = space.pack(m) end
      local total = descent.steps(what, o, source, 10)
      local opt, rate = descent.optimiser(what, o, total, 0.05)
      local beta = o.beta or 1
      local losses
      local kept <close> = journal.open(what, o, { f })
      free, losses = descent.train(source, opt, rate, {
        free = free, fixed = {}, steps = total, seed = seed, log = o.log, weight_decay = o.weight_decay, journal = kept,
        key = { "vertices" },
        draw = function(i)
          return { { 1.0, table.unpack(bent and curves.coefficients(o.kind, count - 2, descent.uniform(seed, i, 1)[1])
            or descent.dirichlet(seed, i, count)) } }
        end,
        penalty = beta ~= 0 and function(list)
          if not bent then return cosines(list, beta) end
          local g, value, ends = {}, cosines({ list[1], list[count] }, beta)
          for k = 1, count do g[k] = k == 1 and ends[1] or k == count and ends[2] or 0 * list[k] end
          return value, g
        end or nil })
      if bent then
        local function model_at(k) return space.point(free[k], models[k], models[k], 0) end
        local c = curves.make { kind = o.kind, space = space, a = model_at(1), b = model_at(count), first = free[1],
          last = free[count], bends = { table.unpack(free, 2, count - 1) }, losses = losses, steps = total }
        c.cosine = select(3, cosines({ free[1], free[count] }, 1))
        return c
      end
      local vertices, one = {}, {}
      for k, v in ipairs(free) do
        vertices[k], one[k] = space.point(v, models[k], models[k], 0), k
      end
      local _, _, mean = cosines(free, 1)
      return new { kind = "simplex", vertices = vertices, simplexes = { one }, volume = volume(free), losses = losses,
        cosine = mean, vectors = function() return { list = free, space = space, like = models[1] } end }
    end))

  local moons = "local function f(x) return x[1] ^ 2 end\n"
    .. "local s = probe.simplex(f, { tensor { 0, 0, 0 } }, { steps = 20 })\n"
  define("simplex:sample", "s:sample(n, seed = 0) -> {m, …}",
    "n models drawn uniformly from a simplex of probe.simplex or probe.learned_subspace (of a complex: from one of its "
    .. "simplexes each), as members of an ensemble or to evaluate.", moons .. "print(#s:sample(4, 1))\n-- > 4",
    new({}).sample)
  define("simplex:centre", "s:centre() -> m", "The mean of the vertices.", moons .. "print(s:centre().shape)\n-- > [3]",
    new({}).centre)
end
