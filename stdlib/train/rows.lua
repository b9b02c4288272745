-- SPDX-License-Identifier: Apache-2.0
-- Batches of plain tensors whose labels are no classes (targets of a regression, probabilities), as a data
-- set of the module data gives them for classes.
local function mixed(seed, k)
  return (seed * 0x9E3779B97F4A7C15 + k * 0xD1B54A32D192ED03) & 0x7FFFFFFFFFFFFFFF
end

return function(x, y)
  local n = x.shape[1]
  local set = { n = n, x = x, y = y }


  -- o: size, steps, seed, dropout_seed, drop_last, start, as d:batches takes them
  function set.batches(_, o)
    if o.augment then error("train.fit: augment is for data sets of images", 0) end
    local per_epoch = o.drop_last and n // o.size or (n + o.size - 1) // o.size
    local i, epoch, order = o.start - 1, nil, nil
    return function()
      i = i + 1
      if i > o.steps or per_epoch == 0 then return nil end
      local e, first = (i - 1) // per_epoch + 1, (i - 1) % per_epoch * o.size
      if e ~= epoch then epoch, order = e, tensor.randperm(n, mixed(o.seed, e)) end
      local count = math.min(o.size, n - first)
      local index = order[{ { first + 1, first + count } }]
      return i, { x = x:index_select(1, index), y = y:index_select(1, index),
        n = count, epoch = e, key = mixed(o.dropout_seed, i) }
    end
  end

  return set
end
