-- SPDX-License-Identifier: Apache-2.0
-- Spectral clustering of a small symmetric matrix of distances or barriers (Ng, Jordan, Weiss 2001; von Luxburg 2007,
-- arXiv:0711.0189). Near ones count, by exp(-(d / scale)^2); eigenvectors of the normalised Laplacian
-- I - D^-1/2 A D^-1/2 with the least eigenvalues place each item on a sphere, where clusters are apart even if their
-- members are near in steps only. Items are few, so that k-means is begun from every one of them.
local function squared(x, y)
  local sum = 0
  for i, v in ipairs(x) do sum = sum + (v - y[i]) ^ 2 end
  return sum
end

local function nearest(x, centres)
  local best, which = math.huge, 1
  for k, c in ipairs(centres) do
    local d = squared(x, c)
    if d < best then best, which = d, k end
  end
  return which, best
end

-- Owners of points, from 1, and the sum of squares: the first centre is point `first`, each further one the farthest.
local function k_means(points, k, first)
  local centres, owner = { points[first] }, {}
  while #centres < k do
    local far, which = -1, 1
    for i, x in ipairs(points) do
      local _, d = nearest(x, centres)
      if d > far then far, which = d, i end
    end
    centres[#centres + 1] = points[which]
  end
  for _ = 1, 100 do
    local changed, sums, counts = false, {}, {}
    for i, x in ipairs(points) do
      local own = nearest(x, centres)
      changed, owner[i] = changed or own ~= owner[i], own
      counts[own] = (counts[own] or 0) + 1
      sums[own] = sums[own] or {}
      for j, v in ipairs(x) do sums[own][j] = (sums[own][j] or 0) + v end
    end
    if not changed then break end
    for c, sum in pairs(sums) do
      for j, v in ipairs(sum) do sum[j] = v / counts[c] end
      centres[c] = sum
    end
  end
  local cost = 0
  for i, x in ipairs(points) do cost = cost + squared(x, centres[owner[i]]) end
  return owner, cost
end

-- partition(matrix, scale, k or nil) -> { k, scale, eigenvalues (ascending), clusters { {i, …}, … } }; nil where the
-- matrix is not finite. k: by the largest gap of the eigenvalues, the one behind the last being 1, unless given.
return function(matrix, scale, k)
  local n, near, degree = #matrix, {}, {}
  for i = 1, n do
    near[i], degree[i] = {}, 0
    for j = 1, n do
      local d = matrix[i][j]
      if d - d ~= 0 then return nil end
      near[i][j] = scale > 0 and math.exp(-(d / scale) ^ 2) or (d == 0 and 1 or 0)
      degree[i] = degree[i] + near[i][j]
    end
  end
  for i = 1, n do
    for j = 1, n do near[i][j] = (i == j and 1 or 0) - near[i][j] / math.sqrt(degree[i] * degree[j]) end
  end
  local values, vectors = tensor(near, { dtype = "f64" }):eigh()
  values, vectors = values:totable(), vectors:totable()
  if not k then
    local widest = -math.huge
    for i = 1, n do
      local gap = (values[i + 1] or 1) - values[i]
      if gap > widest + 1e-12 then widest, k = gap, i end
    end
  end
  local points = {}
  for i = 1, n do
    local x, size = {}, 0
    for j = 1, k do
      x[j] = vectors[i][j]
      size = size + x[j] ^ 2
    end
    for j = 1, k do x[j] = x[j] / math.sqrt(math.max(size, 1e-300)) end
    points[i] = x
  end
  local best, owner = math.huge, nil
  for first = 1, n do
    local own, cost = k_means(points, k, first)
    if cost < best - 1e-12 then best, owner = cost, own end
  end
  local clusters, of = {}, {}
  for i, c in ipairs(owner) do
    if not of[c] then
      of[c] = {}
      clusters[#clusters + 1] = of[c]
    end
    table.insert(of[c], i)
  end
  return { k = k, scale = scale, eigenvalues = values, clusters = clusters }
end
