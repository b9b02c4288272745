-- SPDX-License-Identifier: Apache-2.0
-- Clusters of equal size: k-means whose assignment is the cheapest among those that give every cluster n/k points,
-- rounded down or up. Each assignment is a flow of least cost, built point by point along shortest paths between
-- clusters (a path is: the new point goes here, one of here goes there, …), so it is exact; ordered moves wait in a
-- heap for each pair of clusters. Memory n k.
local heap = {}

local function before(x, y) return x[1] < y[1] or x[1] == y[1] and x[2] < y[2] end

function heap.push(h, item)
  local i = #h + 1
  h[i] = item
  while i > 1 and before(h[i], h[i // 2]) do
    h[i], h[i // 2] = h[i // 2], h[i]
    i = i // 2
  end
end

function heap.pop(h)
  local last = table.remove(h)
  if #h == 0 then return end
  local i = 1
  h[1] = last
  while true do
    local least = i
    for j = 2 * i, 2 * i + 1 do
      if h[j] and before(h[j], h[least]) then least = j end
    end
    if least == i then return end
    h[i], h[least] = h[least], h[i]
    i = least
  end
end

-- Owners from 1 of the rows of cost ({ {of cluster 1, …}, … }), least in sum; sizes differ by one at most.
local function balanced(cost, k)
  local n = #cost
  local least, spare = n // k, n % k -- each cluster takes `least`, and one more while there is a spare place
  local pool = k + 1 -- the node of the spare places
  local owner, load, used, moves = {}, {}, 0, {}
  for a = 1, k do
    load[a], moves[a] = 0, {}
    for b = 1, k do moves[a][b] = {} end
  end

  local function put(p, a)
    owner[p], load[a] = a, load[a] + 1
    for b = 1, k do
      if b ~= a then heap.push(moves[a][b], { cost[p][b] - cost[p][a], p }) end
    end
  end

  -- The cheapest move from a to b; entries of points that have left a are dropped here.
  local function move(a, b)
    local h = moves[a][b]
    while h[1] and owner[h[1][2]] ~= a do heap.pop(h) end
    return h[1]
  end

  local function step(a, b) -- what it costs to go on from node a to node b; nil where that is not possible
    if b == pool then return load[a] == least and 0 or nil end
    if a == pool then return load[b] > least and 0 or nil end
    local m = move(a, b)
    return m and m[1]
  end

  for p = 1, n do
    local far, from, grain = {}, {}, 0
    for a = 1, k do
      far[a] = cost[p][a]
      grain = math.max(grain, 1e-12 * math.abs(far[a])) -- less than this is rounding, and no gain
    end
    local changed = true
    for _ = 1, pool do
      if not changed then break end
      changed = false
      for a = 1, pool do
        for b = 1, pool do
          local c = far[a] and a ~= b and step(a, b)
          if c and (not far[b] or far[a] + c < far[b] - grain) then
            far[b], from[b], changed = far[a] + c, a, true
          end
        end
      end
    end
    local to = used < spare and far[pool] and pool or nil
    for a = 1, k do
      if load[a] < least and (not to or far[a] < far[to]) then to = a end
    end
    used = to == pool and used + 1 or used
    local path = { to }
    while from[path[1]] do table.insert(path, 1, from[path[1]]) end
    local goes = {}
    for i = 2, #path do
      local a, b = path[i - 1], path[i]
      if a ~= pool and b ~= pool then goes[#goes + 1] = { move(a, b)[2], a, b } end
    end
    for _, g in ipairs(goes) do
      load[g[2]] = load[g[2]] - 1
      put(g[1], g[3])
    end
    put(p, path[1])
  end
  return owner, load
end

return function(define, check, core)
  local what = "data.clusters"

  local function whole(o, name, default, low, high)
    local v = o[name]
    if v == nil then v = default end
    if math.type(v) ~= "integer" or v < low or v > high then
      error(("%s: %s is a whole number from %d to %d, got %s"):format(what, name, low, high,
        type(v) == "number" and v or core.kind(v)), 3)
    end
    return v
  end

  local function squares(x, centres) -- [n, k]
    local far = {}
    for j = 1, #centres do far[j] = ((x - centres[j]) ^ 2):sum(-1) end
    return tensor.stack(far, 2)
  end

  -- k-means++ (Arthur and Vassilvitskii 2007): each centre is a point, drawn in proportion to its squared distance.
  local function first(x, k, seed)
    local draws, n = tensor.uniform({ k }, seed, { dtype = "f64" }):totable(), x.shape[1]
    local centres, far = { x[math.min(n, 1 + draws[1] * n // 1 | 0)] }, nil
    for j = 2, k do
      local d = ((x - centres[j - 1]) ^ 2):sum(-1)
      far = far and tensor.minimum(far, d) or d
      local upto, at = far:cumsum(1):totable(), n
      for p = n, 1, -1 do
        if upto[p] > draws[j] * upto[n] then at = p end
      end
      centres[j] = x[at]
    end
    return centres
  end

  define(what, "data.clusters(x, {k =, rounds = 20, seed = 0, start =}) -> {centres, cluster, sizes, cost, rounds}",
    "Balanced k-means of the rows of x [n, d]: clusters of n/k points, rounded down or up. Each round gives the points "
    .. "to the centres so that the sum of squared distances is the least that sizes allow, exactly, and takes the "
    .. "means as new centres, until nothing changes; it begins as k-means++, or with the centres `start` [k, d]. "
    .. "cluster: i64 [n], from 1; centres [k, d] and cost, the mean squared distance to them, in f64. For cluster-BTM "
    .. "(Gururangan et al. 2023, arXiv:2303.14177).",
    "local c = data.clusters(tensor { {0, 0}, {9, 9}, {0, 1}, {9, 8}, {1, 0}, {2, 2} }, { k = 2 })\n"
    .. "local of = c.cluster\nprint(c.sizes[1], c.sizes[2], of[1] == of[3], of[2] == of[4], of[1] == of[2])\n"
    .. "-- > 3\t3\ttrue\ttrue\tfalse",
    function(x, o)
      check(what, o, { "k", "rounds", "seed", "start" })
      o = o or {}
      if core.kind(x) ~= "tensor" or x.rank ~= 2 then
        error(what .. ": expected a tensor [n, d], got " .. (core.kind(x) == "tensor" and "rank " .. x.rank
          or core.kind(x)), 2)
      end
      local k, rounds = whole(o, "k", nil, 1, x.shape[1]), whole(o, "rounds", 20, 1, math.maxinteger)
      x = x:to "f64"
      if not x:isfinite():all() then error(what .. ": x holds values that are not finite", 2) end
      local seed, centres, owner, sizes, done = whole(o, "seed", 0, 0, math.maxinteger), {}, nil, nil, 0
      if o.start then
        if core.kind(o.start) ~= "tensor" then
          error(("%s: start is a tensor [%d, %d], got %s"):format(what, k, x.shape[2], core.kind(o.start)), 2)
        end
        local start = o.start:to "f64"
        if start.rank ~= 2 or start.shape[1] ~= k or start.shape[2] ~= x.shape[2] then
          error(("%s: start has the shape %s, expected [%d, %d]"):format(what, tostring(start.shape), k, x.shape[2]), 2)
        end
        for j = 1, k do centres[j] = start[j] end
      else
        centres = first(x, k, seed)
      end
      for round = 1, rounds do
        local before_it = owner
        owner, sizes = balanced(squares(x, centres):totable(), k)
        local same = before_it ~= nil
        for p, a in ipairs(owner) do same = same and before_it[p] == a end
        if same then break end
        done = round
        local index = tensor(owner, { dtype = "i64" })
        for j = 1, k do centres[j] = (x * index:eq(j):to("f64"):unsqueeze(2)):sum(1) / sizes[j] end
      end
      local index = tensor(owner, { dtype = "i64" })
      return { centres = tensor.stack(centres, 1), cluster = index, sizes = sizes, rounds = done,
        cost = squares(x, centres):gather(2, index:unsqueeze(2)):mean() }
    end)
end
