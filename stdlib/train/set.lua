-- SPDX-License-Identifier: Apache-2.0
-- What can be trained on: a data set, or { x =, y = } with classes, targets or no labels, as something with batches;
-- nil where it is neither.
local floating = require "floating"

return function(core)
  return function(d)
    if type(d) ~= "table" then return nil end
    if type(d.batches) == "function" then return d end
    if core.kind(d.x) ~= "tensor" then return nil end
    if d.y == nil or not floating[d.y.dtype] then return data.tensors { x = d.x, y = d.y } end
    return require "train.rows"(d.x, d.y)
  end
end
