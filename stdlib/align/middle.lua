-- SPDX-License-Identifier: Apache-2.0
-- Networks between two, for alignments that are found by the loss there (align.ste, align.sinkhorn).
return function(core)
  local features = require "align.features"(core)
  local middle = {}
  local floating = { f64 = true, f32 = true }

  -- a and b as tables in arithmetic dtypes, the names of what has a gradient (neither buffers nor integers), and the
  -- mode to run them in: with batch norms "train", since statistics between two networks fit neither.
  function middle.opened(what, net, a, b)
    local one, two, names = features.opened(what, net, a), features.opened(what, net, b), {}
    local buffers = false
    for _, p in ipairs(net:params()) do
      if not p.buffer and floating[one[p.name].dtype] then names[#names + 1] = p.name end
      buffers = buffers or p.buffer
    end
    return one, two, names, buffers and "train" or "eval"
  end

  -- The keys of a table in order: what is recorded in another order is summed in another order.
  function middle.sorted(t)
    local keys = {}
    for key in pairs(t) do keys[#keys + 1] = key end
    table.sort(keys)
    return keys
  end

  -- (1 - t) a + t b for floating tensors; the rest is that of a.
  function middle.between(a, b, t)
    local out = {}
    for _, name in ipairs(middle.sorted(a)) do
      local v = a[name]
      out[name] = floating[v.dtype] and (1 - t) * v + t * b[name] or v
    end
    return out
  end

  return middle
end
