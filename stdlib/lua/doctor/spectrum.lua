-- SPDX-License-Identifier: Apache-2.0
-- Directions of a merged matrix, from some of its rows: the effective rank of the change that a merge
-- made against those of its models, and whether directions that the models share are held more often
-- than once. A sample of rows keeps the row space of what is low-rank and costs no pass over the file.

local spectrum = {}

local ROWS, PIECES, LEADING = 256, 4, 16

-- The same rows of every model: PIECES blocks, evenly spread; f64.
local function rows_of(m, name, n)
  local take = math.min(ROWS, n)
  local pieces, each = {}, take // PIECES
  if take == n then return m:slice(name, 1, n):tensor(name):to("f64"):load() end
  for k = 0, PIECES - 1 do
    local first = 1 + (n - each) * k // (PIECES - 1)
    pieces[k + 1] = m:slice(name, first, first + each - 1):tensor(name):to("f64"):load()
  end
  return tensor.cat(pieces, 1)
end

-- exp of the entropy of the singular values' shares: how many directions a matrix uses, as it were.
local function effective_rank(s)
  local sum, h = 0, 0
  for _, v in ipairs(s) do sum = sum + v end
  for _, v in ipairs(s) do
    local p = sum > 0 and v / sum or 0
    if p > 0 then h = h - p * math.log(p) end
  end
  return sum > 0 and math.exp(h) or 0.0
end

-- Singular values, and the right vectors that hold 95 % of the energy, LEADING at most, as rows.
local function decompose(x)
  local _, s, vh = x:svd { route = "gram" }
  local values, total, sum, k = s:totable(), 0, 0, 0
  for _, v in ipairs(values) do total = total + v * v end
  repeat
    k = k + 1
    sum = sum + values[k] ^ 2
  until sum >= 0.95 * total or k == LEADING or k == #values
  return values, vh[{ { 1, k } }]
end

-- Directions that lead in two models or more: eigenvectors of V V' for the stacked leading vectors,
-- with eigenvalues near 2 and above. Unit vectors as rows; nil: none.
local function shared(vectors)
  local v = tensor.cat(vectors, 1)
  local values, w = v:matmul(v:t()):eigh()
  local first
  values = values:totable()
  for i, x in ipairs(values) do
    if x > 1.5 then
      first = i
      break
    end
  end
  if not first then return nil, 0 end
  local many = #values - first + 1
  local u = w:t()[{ { first, #values } }]:matmul(v)
  return u / (u * u):sum(2, { keepdim = true }):sqrt(), many
end

-- of(result, base, models, {result =, base =, k = name in model k}) -> {rank, ranks = of the models,
-- rows, shared = directions that lead in several models, as a share of those that lead in one,
-- held = how strongly the result holds these, as a multiple of the model that holds them most}
function spectrum.of(result, base, models, name)
  local n = result:info(name.result).shape[1]
  local b = rows_of(base, name.base, n)
  local d = rows_of(result, name.result, n) - b
  local offsets, vectors, ranks = {}, {}, {}
  for k, m in ipairs(models) do
    offsets[k] = rows_of(m, name[k], n) - b
    local s
    s, vectors[k] = decompose(offsets[k])
    ranks[k] = effective_rank(s)
  end
  local out = { rank = effective_rank((decompose(d))), ranks = ranks, rows = math.min(ROWS, n), shared = 0.0 }
  local u, many
  if #models > 1 then u, many = shared(vectors) end
  if u then
    local function along(x)
      local y = x:matmul(u:t())
      return math.sqrt((y * y):sum())
    end
    local most = 0
    for _, x in ipairs(offsets) do most = math.max(most, along(x)) end
    local least = math.huge
    for _, v in ipairs(vectors) do least = math.min(least, v.shape[1]) end
    out.shared = many / least
    out.held = most > 0 and along(d) / most or 0
  end
  return out
end

return spectrum
