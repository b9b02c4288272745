-- SPDX-License-Identifier: Apache-2.0
-- A random member of the symmetry group that a layout claims, in f64, as large as the kinds allow: each class is moved
-- by R diag(s), with R a permutation or orthogonal and s ones, signs or positive numbers. Who reads takes the inverse
-- transposed, R diag(1 / s). Slow and simple, with nothing of the library's maps.
local member = {}

local function scales(kind, n, seed)
  if kind == "permutation" then return tensor.full({ n }, 1, { dtype = "f64" }) end
  if kind == "signed" then
    return tensor.uniform({ n }, seed, { dtype = "f64" }):gt(0.5):to "f64" * 2 - 1
  end
  return tensor.uniform({ n }, seed, { low = -0.7, high = 0.7, dtype = "f64" }):exp()
end

local function rotation(kind, n, seed)
  if kind == "linear" then return (tensor.randn({ n, n }, seed, { dtype = "f64" }):qr()) end
  return tensor.eye(n, { dtype = "f64" }):index_select(1, tensor.randperm(n, seed))
end

-- c -> { [dual] = { matrix of each instance } }
function member.random(layout, seed)
  local out = {}
  for c, class in pairs(layout.classes) do
    local instances = 1
    for _, g in ipairs(class.under) do instances = instances * layout.classes[g].size end
    local own = { [true] = {}, [false] = {} }
    for i = 1, instances do
      local at = seed * 100003 + c * 1009 + i
      local r, s = rotation(class.kind, class.size, at), scales(class.kind, class.size, at + 7)
      own[false][i], own[true][i] = r * s, r / s
    end
    out[c] = own
  end
  return out
end

-- Rows of t [size, rest] moved as the factors of a segment say.
local function moved(layout, m, segment, t)
  local shape, outer = t.shape, 1
  for k, f in ipairs(segment) do
    if f.class then
      local inner, parts = segment.size // (outer * f.size) * shape[2], {}
      t = t:reshape { outer, f.size, inner }
      for o = 0, outer - 1 do
        local digit, rest = {}, o
        for j = k - 1, 1, -1 do digit[j], rest = rest % segment[j].size, rest // segment[j].size end
        local instance = 0
        for _, g in ipairs(layout.classes[f.class].under) do
          local found
          for j = 1, k - 1 do
            if segment[j].class == g then found = digit[j] end
          end
          instance = instance * layout.classes[g].size + assert(found, "under a class that does not stand before")
        end
        parts[o + 1] = m[f.class][f.dual][instance + 1]:matmul(t[o + 1]):reshape { 1, f.size, inner }
      end
      t = tensor.cat(parts, 1)
    end
    outer = outer * f.size
  end
  assert(outer == segment.size, "factors do not fill their segment")
  return t:reshape(shape)
end

-- A tensor moved along all its axes.
function member.apply(layout, m, axes, t)
  t = t:to "f64"
  for d, axis in ipairs(axes) do
    local order, n = { d }, #t.shape
    for k = 1, n do
      if k ~= d then order[#order + 1] = k end
    end
    local x = t:permute(order)
    local shape, rest, at, parts = x.shape, 1, 0, {}
    for k = 2, n do rest = rest * shape[k] end
    x = x:reshape { shape[1], rest }
    for s, segment in ipairs(axis) do
      assert(segment.offset == at, "segments do not follow each other")
      parts[s] = moved(layout, m, segment, x[{ { at + 1, at + segment.size } }])
      at = at + segment.size
    end
    assert(at == shape[1], "segments do not fill their axis")
    local back = {}
    for k, from in ipairs(order) do back[from] = k end
    t = tensor.cat(parts, 1):reshape(shape):permute(back)
  end
  return t
end

function member.weights(layout, m, theta)
  local out = {}
  for name, t in pairs(theta) do out[name] = member.apply(layout, m, layout.tensors[name].axes, t) end
  return out
end

return member
