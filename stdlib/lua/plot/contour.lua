-- SPDX-License-Identifier: Apache-2.0
-- Level lines of values on a grid, by marching squares with linear interpolation along the edges. Where a cell has two
-- opposite high corners, its mean decides which of them are joined. What is not a number counts as infinitely high.
local contour = {}

-- Each crossing lies on an edge of the grid: "h i j" from (i, j) to (i + 1, j), "v i j" from (i, j) to (i, j + 1). A
-- cell joins two of its edges; chains of them are the lines. z(i, j) may be infinite.
local function segments(n, m, z, level)
  local list = {}
  for i = 1, n - 1 do
    for j = 1, m - 1 do
      local a, b, c, d = z(i, j), z(i + 1, j), z(i + 1, j + 1), z(i, j + 1)
      local code = (a >= level and 1 or 0) | (b >= level and 2 or 0) | (c >= level and 4 or 0) | (d >= level and 8 or 0)
      if code ~= 0 and code ~= 15 then
        local bottom, right, top, left = { "h", i, j }, { "v", i + 1, j }, { "h", i, j + 1 }, { "v", i, j }
        local function add(p, q) list[#list + 1] = { p, q } end
        if code == 5 or code == 10 then
          local high = (a + b + c + d) / 4 >= level
          if (code == 5) == high then
            add(bottom, right)
            add(top, left)
          else
            add(left, bottom)
            add(right, top)
          end
        elseif code == 1 or code == 14 then add(left, bottom)
        elseif code == 2 or code == 13 then add(bottom, right)
        elseif code == 4 or code == 11 then add(right, top)
        elseif code == 8 or code == 7 then add(top, left)
        elseif code == 3 or code == 12 then add(left, right)
        else add(bottom, top) end -- 6, 9
      end
    end
  end
  return list
end

-- Chains of edges, closed where they come back.
local function chains(list)
  local at, used = {}, {}
  local function key(e) return e[1] .. e[2] .. "," .. e[3] end
  for k, s in ipairs(list) do
    for side = 1, 2 do
      local name = key(s[side])
      at[name] = at[name] or {}
      table.insert(at[name], k)
    end
  end
  local function walk(k, from)
    local out = { from }
    while k do
      used[k] = true
      local s = list[k]
      local to = key(s[1]) == key(out[#out]) and s[2] or s[1]
      out[#out + 1] = to
      k = nil
      for _, other in ipairs(at[key(to)]) do
        if not used[other] then k = other end
      end
    end
    return out
  end
  local out = {}
  for k, s in ipairs(list) do -- open ones first, from their ends
    for side = 1, 2 do
      if not used[k] and #at[key(s[side])] == 1 then out[#out + 1] = walk(k, s[side]) end
    end
  end
  for k, s in ipairs(list) do
    if not used[k] then
      local c = walk(k, s[1])
      c.closed = key(c[1]) == key(c[#c])
      if c.closed then c[#c] = nil end
      out[#out + 1] = c
    end
  end
  return out
end

-- Where the level is crossed on an edge, as fractional indices.
local function crossing(e, z, level)
  local i, j = e[2], e[3]
  local p = z(i, j)
  local q, s
  if e[1] == "h" then q = z(i + 1, j) else q = z(i, j + 1) end
  if p == -math.huge or q == math.huge then s = p == -math.huge and 1 or 0
  elseif q == -math.huge or p == math.huge then s = q == -math.huge and 0 or 1
  else s = (level - p) / (q - p) end
  if e[1] == "h" then return i + s, j end
  return i, j + s
end

local function lines_of(n, m, z, level)
  local out = {}
  for _, c in ipairs(chains(segments(n, m, z, level))) do
    local line = { closed = c.closed == true }
    for _, e in ipairs(c) do
      local x, y = crossing(e, z, level)
      line[#line + 1] = { x, y }
    end
    out[#out + 1] = line
  end
  return out
end

local function known(v) return v ~= v and math.huge or v end

-- contour.lines(values[i][j], level) -> { { {x, y}, …, closed = }, … } in indices from 1.
function contour.lines(values, level)
  return lines_of(#values, #values[1], function(i, j) return known(values[i][j]) end, level)
end

-- The closed lines around all that is at least `level`, along the border too; to be filled by the even-odd rule.
function contour.areas(values, level)
  local n, m = #values, #values[1]
  local out = lines_of(n + 2, m + 2, function(i, j)
    if i == 1 or j == 1 or i == n + 2 or j == m + 2 then return -math.huge end
    return known(values[i - 1][j - 1])
  end, level)
  for _, line in ipairs(out) do
    for _, p in ipairs(line) do p[1], p[2] = math.max(1, math.min(n, p[1] - 1)), math.max(1, math.min(m, p[2] - 1)) end
  end
  return out
end

return contour
