-- SPDX-License-Identifier: Apache-2.0
-- Barriers between all pairs of models: which of them lie in one basin. Clusters are the components below a threshold
-- and a hierarchy; the map in two dimensions is classical scaling of the matrix.
return function(define, check, core)
  local expect = require "expect"(core.kind)
  local told = require "nn.told"
  local record = require "probe.record"
  local points = require "probe.points"(core)
  local partition = require "probe.partition"
  local shape = require "probe.shape"
  local short = record.short

  local function fail(text, ...) error("probe.barriers: " .. text:format(...), 0) end

  -- The groups of points that are joined by steps of at most `most`, each in ascending order.
  local function components(d, most)
    local n, of, list = #d, {}, {}
    for i = 1, n do
      if not of[i] then
        local group, queue = {}, { i }
        of[i] = true
        while #queue > 0 do
          local k = table.remove(queue)
          group[#group + 1] = k
          for j = 1, n do
            if not of[j] and d[k][j] <= most then
              of[j] = true
              queue[#queue + 1] = j
            end
          end
        end
        table.sort(group)
        list[#list + 1] = group
      end
    end
    return list
  end

  -- Agglomeration by Lance and Williams: { {i, k, height, size}, … }; numbers above n are earlier joins.
  local updates = {
    single = function(x, y) return math.min(x, y) end,
    complete = function(x, y) return math.max(x, y) end,
    average = function(x, y, m, n) return (m * x + n * y) / (m + n) end,
  }

  local function agglomerate(matrix, linkage)
    local n, d, size, alive, joins = #matrix, {}, {}, {}, {}
    for i = 1, n do
      d[i], size[i], alive[i] = {}, 1, i
      for j = 1, n do d[i][j] = matrix[i][j] end
    end
    for k = 1, n - 1 do
      local best, x, y = math.huge, 1, 2
      for a = 1, #alive do
        for b = a + 1, #alive do
          local v = d[alive[a]][alive[b]]
          if v < best then best, x, y = v, a, b end
        end
      end
      local i, j, new = alive[x], alive[y], n + k
      best = d[i][j]
      d[new], size[new] = {}, size[i] + size[j]
      table.remove(alive, y)
      table.remove(alive, x)
      for _, other in ipairs(alive) do
        local v = updates[linkage](d[i][other], d[j][other], size[i], size[j])
        d[new][other], d[other][new] = v, v
      end
      alive[#alive + 1] = new
      joins[k] = { i, j, height = best, size = size[new] }
    end
    return joins
  end

  -- Coordinates whose distances come nearest to the matrix (Torgerson 1952).
  local function scaled(matrix)
    local n, squares = #matrix, {}
    for i = 1, n do
      squares[i] = {}
      for j = 1, n do
        local v = matrix[i][j]
        if v - v ~= 0 then return nil end
        squares[i][j] = v * v
      end
    end
    local h = tensor.eye(n, n, { dtype = "f64" }) - 1 / n
    local values, vectors = (h:matmul(tensor(squares, { dtype = "f64" })):matmul(h) * -0.5):eigh()
    values, vectors = values:totable(), vectors:totable()
    local out = {}
    for i = 1, n do
      out[i] = {}
      for k = 1, 2 do
        out[i][k] = n >= k and math.sqrt(math.max(values[n + 1 - k], 0)) * vectors[i][n + 1 - k] or 0.0
      end
    end
    return out
  end

  local function tree_of(joins, names)
    local nodes = {}
    for k, name in ipairs(names) do nodes[k] = { value = 0.0, label = name } end
    for k, j in ipairs(joins) do
      nodes[#names + k] = { value = j.height, kids = { nodes[j[1]], nodes[j[2]] } }
    end
    return nodes[#nodes]
  end

  local new_barriers = record.kind("barriers", {
    text = function(r)
      local rows = {}
      for i, name in ipairs(r.names) do
        rows[i] = { name }
        for j = 1, #r.names do rows[i][j + 1] = i == j and "·" or short(r.matrix[i][j]) end
      end
      local function said(clusters)
        local groups = {}
        for k, g in ipairs(clusters) do
          local list = {}
          for m, i in ipairs(g) do list[m] = r.names[i] end
          groups[k] = "{" .. table.concat(list, ", ") .. "}"
        end
        return table.concat(groups, " ")
      end
      return ("%s of %d models, %d points a pair\n"):format(r.quantity, #r.names, r.points)
        .. record.columns({ "", table.unpack(r.names) }, rows)
        .. ("\nbelow %s: %s"):format(short(r.threshold), said(r.clusters))
        .. (r.spectral and ("\nspectral, k = %d: %s"):format(r.spectral.k, said(r.spectral.clusters)) or "")
    end,
    rows = function(r)
      local rows = {}
      for _, p in ipairs(r.pairs) do
        rows[#rows + 1] = { r.names[p[1]], r.names[p[2]], p.barrier_loss, p.barrier_error, p.argmax_t }
      end
      return { "a", "b", "barrier_loss", "barrier_error", "argmax_t" }, rows
    end,
    plot = function(r, o)
      local all = { r.matrix, rows = r.names, columns = r.names, title = o.title, label = (r.quantity:gsub("_", " ")) }
      for key, v in pairs(o) do all[key] = v end
      return plot.matrix(all)
    end,
    methods = { tree = function(r) return tree_of(r.joins, r.names) end },
  })

  define("probe.barriers", "probe.barriers(f, {a, b, …}, {points = 11, names =, quantity = \"barrier_loss\", threshold "
    .. "=, linkage = \"single\", k =, scale =, align =, bn =, journal =}) -> barriers",
    "Barriers between all pairs. Question: how many basins do these models lie in? The record has matrix (symmetric, "
    .. "zero on the diagonal), pairs { {i, k, barrier_loss, barrier_error, argmax_t}, … }, clusters: the groups joined "
    .. "by barriers of at most threshold, joins: the hierarchy { {i, k, height, size}, … } (numbers above the number "
    .. "of models are earlier joins), spectral: {k, clusters, eigenvalues, scale} by the eigenvectors of the "
    .. "normalised "
    .. "Laplacian (Ng, Jordan, Weiss 2001), map: places in two dimensions whose distances are near the matrix "
    .. "(classical "
    .. "scaling). r:plot() shows the matrix, plot.tree(r) the hierarchy.\n"
    .. "  quantity: \"barrier_loss\" or \"barrier_error\"\n"
    .. "  threshold: for clusters; half the largest entry unless said\n"
    .. "  linkage: \"single\" (heights of the minimum spanning tree: how high one must climb), \"average\", "
    .. "\"complete\"\n"
    .. "  k: how many spectral clusters; default: where the eigenvalues, 0 for each cluster that stands alone, "
    .. "have their "
    .. "largest gap; scale: barriers d count as nearness exp(-(d / scale)^2); the threshold unless said\n"
    .. "  align: a function(a, b) -> b moved, applied to every pair\n"
    .. "  names: labels; bn, journal, points: as in probe.path\n"
    .. "Reading it: dark blocks along the diagonal are basins, and the tree says how high one must climb from one "
    .. "to the other.\n"
    .. "Cost: points passes over the data a pair. Misleading: models trained apart are all far from each other until "
    .. "they are aligned; components grow together through one model in between, spectral clusters do not, but they "
    .. "need a scale and always find some k; barriers are no distances (the triangle inequality may fail), so the map "
    .. "is a picture only.",
    "local r = probe.barriers(function(x) return -(x - 1) ^ 2 end, { 0, 1, 4 }, { points = 3 })\n"
    .. "print(r.matrix[1][3], #r.clusters, r.joins[1].height)\n-- > 4.0\t2\t0.25",
    told(function(f, list, o)
      local what = "probe.barriers"
      check(what, o, { "points", "names", "quantity", "threshold", "linkage", "k", "scale", "align", "bn", "journal" })
      o = o or {}
      expect(what, o, { names = "a table" })
      if core.kind(list) ~= "table" or #list < 2 then fail "expected a list of at least two models" end
      local quantity, linkage = o.quantity or "barrier_loss", o.linkage or "single"
      if quantity ~= "barrier_loss" and quantity ~= "barrier_error" then
        fail("quantity = %q; expected \"barrier_loss\" or \"barrier_error\"", tostring(quantity))
      end
      if not updates[linkage] then
        fail("linkage = %q; expected \"single\", \"average\" or \"complete\"", tostring(linkage))
      end
      local n, models, names, prints = #list, {}, {}, {}
      if o.k and points.count(what, "k", o.k, 1) > n then fail("k = %d clusters of %d models", o.k, n) end
      if o.scale and not (type(o.scale) == "number" and o.scale > 0) then fail "scale is a number above 0" end
      for k = 1, n do
        models[k] = points.loaded(what, list[k], "model " .. k)
        names[k] = o.names and tostring(o.names[k]) or tostring(k)
        if o.journal then prints[k] = points.fingerprint(models[k]) end
      end
      local ts = points.evenly(0, 1, points.count(what, "points", o.points or 11, 3))
      local e = points.open(what, f, { bn = o.bn, journal = o.journal, total = n * (n - 1) // 2 * (#ts - 2) + n,
        identity = o.journal and { #ts, o.align ~= nil, points.fingerprint(f), prints } })
      local r = { matrix = {}, pairs = {}, names = names, quantity = quantity, linkage = linkage, bn = e.bn,
        points = #ts }
      local _ <close> = core.run(false)
      local ends = {}
      for i = 1, n do
        e.like(models[i])
        ends[i], r.matrix[i] = e.at(models[i], { i, i, 0 }), {}
        r.matrix[i][i] = 0.0
      end
      for i = 1, n do
        for j = i + 1, n do
          local b = o.align and points.loaded(what, o.align(models[i], models[j]), "what align gives") or models[j]
          local p = { t = ts, loss = {}, error = {} }
          e.like(models[i])
          local inner = e.all(#ts - 2, function(k)
            local t = ts[k + 1]
            return function() return points.sum { { 1 - t, models[i] }, { t, b } } end, { i, j, k + 1 }
          end)
          for k = 1, #ts do
            local v = k == 1 and ends[i] or k == #ts and ends[j] or inner[k - 1]
            p.loss[k], p.error[k] = v.loss, v.error
          end
          local height, at = shape.above_chord(ts, p.loss)
          local pair = { i, j, barrier_loss = height, argmax_t = ts[at],
            barrier_error = #p.error == #ts and (shape.above_chord(ts, p.error)) or nil }
          if not pair[quantity] then fail "the function gives no error" end
          r.pairs[#r.pairs + 1] = pair
          r.matrix[i][j], r.matrix[j][i] = pair[quantity], pair[quantity]
        end
      end
      local most = 0.0
      for _, row in ipairs(r.matrix) do
        for _, v in ipairs(row) do most = math.max(most, v) end
      end
      r.threshold = o.threshold or most / 2
      r.clusters, r.joins, r.map = components(r.matrix, r.threshold), agglomerate(r.matrix, linkage), scaled(r.matrix)
      r.spectral = partition(r.matrix, o.scale or r.threshold, o.k)
      return new_barriers(r)
    end))
end
