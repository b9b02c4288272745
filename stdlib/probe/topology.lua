-- SPDX-License-Identifier: Apache-2.0
-- The merge tree of sub-level sets: points are taken in the order of their values, a union-find keeps components. A
-- point without a lower neighbour is a minimum; one that joins components is a saddle, where by the elder rule those
-- with the higher minima end. Exact for values on a graph; ties go by position.
return function(define, check, core)
  local told = require "nn.told"
  local record = require "probe.record"
  local short = record.short

  local function fail(text, ...) error("probe.topology: " .. text:format(...), 0) end

  -- ---- graphs: n values and the neighbours of each ----

  local function grid(rows, corners)
    local n, m, values = #rows, #rows[1], {}
    for i, row in ipairs(rows) do
      if type(row) ~= "table" or #row ~= m then fail("row %d has not as many values as row 1", i) end
      for j, v in ipairs(row) do values[(i - 1) * m + j] = v end
    end
    local steps = { { -1, 0 }, { 1, 0 }, { 0, -1 }, { 0, 1 } }
    if corners then for _, s in ipairs { { -1, -1 }, { -1, 1 }, { 1, -1 }, { 1, 1 } } do steps[#steps + 1] = s end end
    return values, function(k, visit)
      local i, j = (k - 1) // m + 1, (k - 1) % m + 1
      for _, s in ipairs(steps) do
        local a, b = i + s[1], j + s[2]
        if a >= 1 and a <= n and b >= 1 and b <= m then visit((a - 1) * m + b) end
      end
    end, function(k) return { (k - 1) // m + 1, (k - 1) % m + 1 } end
  end

  local function chain(values)
    return values, function(k, visit)
      if k > 1 then visit(k - 1) end
      if k < #values then visit(k + 1) end
    end, function(k) return { k } end
  end

  local function graph(values, edges)
    local near = {}
    for k = 1, #values do near[k] = {} end
    for k, e in ipairs(edges) do
      local a, b = e[1], e[2]
      if not near[a] or not near[b] then fail("edge %d names a point that is not there", k) end
      near[a][#near[a] + 1], near[b][#near[b] + 1] = b, a
    end
    return values, function(k, visit) for _, other in ipairs(near[k]) do visit(other) end end,
      function(k) return { k } end
  end

  -- ---- the sweep ----

  local function sweep(values, neighbours)
    local order, parent = {}, {}
    for k, v in ipairs(values) do
      if type(v) ~= "number" then fail("value %d is a %s", k, core.kind(v)) end
      if v == v and v < math.huge then order[#order + 1] = k end
    end
    if #order == 0 then fail "no value is finite" end
    table.sort(order, function(a, b)
      if values[a] ~= values[b] then return values[a] < values[b] end
      return a < b
    end)
    local function find(k)
      while parent[k] ~= k do
        parent[k] = parent[parent[k]]
        k = parent[k]
      end
      return k
    end
    -- Of a root: its minimum, how many points, the node of the tree.
    local lowest, size, node, pairs_found = {}, {}, {}, {}
    for _, k in ipairs(order) do
      parent[k], lowest[k], size[k], node[k] = k, k, 1, { value = values[k], point = k }
      neighbours(k, function(other)
        if not parent[other] then return end
        local p, q = find(other), find(k)
        local own = q
        if p == q then return end
        if values[lowest[p]] > values[lowest[q]] then p, q = q, p end -- p is the elder
        local merged = values[k] > values[lowest[q]] -- else k only joins what it touches first, or a plateau
        if merged then
          pairs_found[#pairs_found + 1] = { birth = values[lowest[q]], saddle = values[k], point = lowest[q], at = k,
            persistence = values[k] - values[lowest[q]], size = q == own and size[q] - 1 or size[q] }
          local joined = node[p]
          if not (joined.kids and joined.point == k) then
            joined = { value = values[k], point = k, kids = { node[p] } }
          end
          joined.kids[#joined.kids + 1] = node[q]
          node[p] = joined
        end
        parent[q], size[p] = p, size[p] + size[q]
      end)
    end
    local roots, seen = {}, {}
    for _, k in ipairs(order) do
      local r = find(k)
      if not seen[r] then
        seen[r] = true
        roots[#roots + 1] = { lowest = lowest[r], node = node[r], size = size[r] }
      end
    end
    return pairs_found, roots, #order
  end

  -- Mean height from each minimum to the saddle where it ends.
  local function smad(list)
    local sum = 0
    for _, p in ipairs(list) do sum = sum + p.persistence end
    return #list > 0 and sum / #list or 0.0
  end

  -- Branches of less than `least` persistence are drawn into what they join.
  local function pruned(node, least)
    if not node.kids then return node, node.value end
    local kids = {}
    for _, kid in ipairs(node.kids) do
      local kept, deep = pruned(kid, least)
      kids[#kids + 1] = { node = kept, low = deep }
    end
    table.sort(kids, function(a, b) return a.low < b.low end)
    local low = kids[1].low
    local out = {}
    for k, kid in ipairs(kids) do
      if k == 1 or node.value - kid.low >= least then out[#out + 1] = kid.node end
    end
    if #out == 1 then return out[1], low end
    return { value = node.value, place = node.place, kids = out }, low
  end

  local new_topology = record.kind("topology", {
    text = function(r)
      local out = { ("%d minima among %d points, total persistence %s, mean height of a saddle above its minimum %s")
        :format(r.minima, r.points, short(r.total_persistence), short(r.smad)) }
      if r.skipped > 0 then out[#out + 1] = ("%d points are not finite and are left out"):format(r.skipped) end
      local rows = {}
      for k, p in ipairs(r.pairs) do
        if k > 12 then break end
        rows[k] = { table.concat(p.place, ", "), short(p.birth), short(p.saddle), short(p.persistence),
          tostring(p.size) }
      end
      if #rows > 0 then
        out[#out + 1] = record.columns({ "minimum at", "its value", "saddle", "persistence", "points below" }, rows)
      end
      if #r.pairs > 12 then out[#out + 1] = ("… %d more"):format(#r.pairs - 12) end
      return table.concat(out, "\n")
    end,
    rows = function(r)
      local rows = {}
      for k, p in ipairs(r.pairs) do rows[k] = { p.birth, p.saddle, p.persistence, p.size, table.unpack(p.place) } end
      return { "birth", "saddle", "persistence", "points", "i", "j" }, rows
    end,
    plot = function(r, o) return plot.tree(r, o) end,
    methods = {
      -- The tree without branches of less than `least` persistence.
      pruned = function(r, least)
        local trees = {}
        for k, t in ipairs(r.trees) do trees[k] = pruned(t, least) end
        return trees
      end,
    },
  })

  define("probe.topology", "probe.topology(plane, path, {{v, …}, …} or {v, …}, {field = \"loss\", edges =, corners = "
    .. "false}) -> topology",
    "Minima, saddles and the merge tree of sub-level sets. Question: how many basins does a sampled landscape have, "
    .. "and how deep are they? Points are neighbours on the grid of a plane (or of a list of rows), along a path (or "
    .. "a list), or by edges = { {i, k}, … } on a list of values, for solutions joined by paths: give the points of "
    .. "the paths between them too.\n"
    .. "The record has minima (how many), pairs { {birth, saddle, persistence, place, size}, … } from the most "
    .. "persistent down, where the component of a minimum joins an older one, total_persistence, smad (mean height of "
    .. "saddles over their minima; low is smooth), global_min, and trees; r:plot() or plot.tree(r) draws it, "
    .. "r:pruned(h) is the trees without branches lower than h.\n"
    .. "  corners: neighbours on a grid also touch at corners\n"
    .. "Exact for the values given (ties go by position), so grid noise counts as well: minima of small persistence "
    .. "come from the grid. Points that are not finite are left out. Reading it: count the branches that are long "
    .. "against the range of values. Cost: a sort; no evaluation. Misleading: a slice has minima that the landscape "
    .. "does not have, and the other way round.",
    "local r = probe.topology { 1, 3, 0, 2, 1, 4 }\nprint(r.minima, r.pairs[1].saddle, r.pairs[1].birth)\n"
    .. "-- > 3\t3\t1",
    told(function(given, o)
      check("probe.topology", o, { "field", "edges", "corners" })
      o = o or {}
      local kind = core.kind(given)
      local v = given
      if kind == "plane" or kind == "path" then
        v = given[o.field or "loss"]
        if not v then fail("the %s has no %s", kind, tostring(o.field)) end
      elseif kind == "tensor" then
        v = given:totable()
      elseif kind ~= "table" then
        fail("expected a plane, a path, or values, got %s", kind)
      end
      if type(v[1]) ~= "table" and type(v[1]) ~= "number" then fail "there are no values" end
      local values, neighbours, place
      if o.edges then values, neighbours, place = graph(v, o.edges)
      elseif type(v[1]) == "table" then values, neighbours, place = grid(v, o.corners)
      else values, neighbours, place = chain(v) end
      local found, roots, n = sweep(values, neighbours)
      table.sort(found, function(a, b)
        if a.persistence ~= b.persistence then return a.persistence > b.persistence end
        return a.point < b.point
      end)
      local total = 0.0
      for _, p in ipairs(found) do
        p.place, p.saddle_place = place(p.point), place(p.at)
        total = total + p.persistence
        p.point, p.at = nil, nil
      end
      local trees, low = {}, math.huge
      local function placed(node)
        node.place, node.point = place(node.point), nil
        for _, kid in ipairs(node.kids or {}) do placed(kid) end
      end
      for k, root in ipairs(roots) do
        low = math.min(low, values[root.lowest])
        trees[k] = root.node
        placed(root.node)
      end
      return new_topology { minima = #found + #roots, pairs = found, total_persistence = total, smad = smad(found),
        global_min = low, trees = trees, components = #roots, points = n, skipped = #values - n }
    end))
end
