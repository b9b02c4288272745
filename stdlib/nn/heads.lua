-- SPDX-License-Identifier: Apache-2.0
-- Networks that agree up to a part as one: a common trunk and a head for each. Before its head each has a linear map
-- without bias that gives it its own features back (unmerge), since those of the trunk are shared or fewer. align.zip
-- makes such networks; their tensors are those of the trunk under their own names and heads.1.…, heads.2.….
local net = require "nn.net"
local layer = require "nn.layer"
local compose = require "nn.compose"

-- o: join (of nn.branch), unmerge = { {inputs, outputs}, … } for each network; {}: there is nothing to give back.
return function(nets, through, o)
  local first = nets[1]
  local trunk, list = compose.upto(first, through), {}
  for i, n in ipairs(nets) do
    local rest = compose.from(n, through)
    local links = { table.unpack(rest.children) }
    local shape = o.unmerge[i]
    if shape then
      table.insert(links, 1, { name = "unmerge", net = layer.linear(shape[1], shape[2], { bias = false }) })
    end
    list[i] = { tostring(i), compose.chain { kind = "head", children = links, scheme = rest.scheme } }
  end
  local children = { table.unpack(trunk.children) }
  for _, c in ipairs(children) do
    if c.name == "heads" or c.at:find "^heads%." then
      net.fail "nn: a part of the network is called heads already"
    end
  end
  children[#children + 1] = { name = "heads", group = "head", net = compose.branch(list, o.join) }
  local own, named = {}, type(o.join) == "string"
  for i, n in ipairs(nets) do
    local c = n.config and n.config.tarn
    own[i] = c and c.net and { net = c.net, options = c.options } or nil
    named = named and own[i] ~= nil
  end
  return compose.chain { kind = "shared_trunk", children = children, scheme = trunk.scheme, input = first.input,
    tokens = first.tokens, predicts = first.predicts,
    config = named and { tarn = { net = "shared_trunk", widths = "tensors",
      options = { nets = own, through = through, join = o.join, unmerge = #o.unmerge > 0 } } } or nil }
end
