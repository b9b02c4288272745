-- SPDX-License-Identifier: Apache-2.0
-- Two networks joined by an affine map: the first parts of one, a linear map of its activations, the last parts of
-- the other (Lenc and Vedaldi 2014; Bansal et al. 2021). It is a chain like any other; train.stitch finds the map.
local net = require "nn.net"
local compose = require "nn.compose"
local layer = require "nn.layer"
local summary = require "nn.summary"

local module = {}

-- How wide the activations behind a part are, from shapes alone.
local function width(root, name, input, which)
  input = input or root.input
  if not input then
    net.fail("nn.stitch: the shape of an input of network %s is not known; give input = {…}", which)
  end
  local seen, why = summary.traced(root, { 1, table.unpack(input) })
  if not seen then net.fail("nn.stitch: network %s: %s", which, tostring(why)) end
  local shape = seen[name] and seen[name].shape
  if not shape then net.fail("nn.stitch: network %s has no part %s", which, tostring(name)) end
  return shape[#shape]
end

function module.new(a, at, b, behind, o)
  if not net.is(a) or not net.is(b) then net.fail("nn.stitch: expected nn.stitch(net a, part, net b, part)") end
  o, behind = o or {}, behind or at
  if o.input ~= nil then layer.sizes("nn.stitch", "input", o.input) end
  local first, last = compose.upto(a, at), compose.from(b, behind)
  local map = layer.linear(width(a, at, o.input, "a"), width(b, behind, o.input, "b"))
  first.frozen, last.frozen = true, true
  return compose.chain { kind = "stitched", input = o.input or a.input, tokens = a.tokens, predicts = b.predicts,
    halves = { a = first, b = b, before_b = compose.upto(b, behind) },
    children = { { name = "a", net = first }, { name = "stitch", net = map }, { name = "b", net = last } } }
end

function module.define(public, check)
  public("nn.stitch", "nn.stitch(a, part, b, part of b, {input = a.input}) -> net",
    "The network a up to and with a part, an affine map over the last dimension (on images: a convolution of 1 x 1), "
    .. "and the network b behind a part (default: the same), as one network (Lenc and Vedaldi 2014, arXiv:1411.5908; "
    .. "Bansal et al. 2021, arXiv:2106.07682). The two halves run in evaluation mode even in training. Its tensors are "
    .. "those of a under a., of b under b., stitch.weight and stitch.bias. train.stitch fills them from two models. "
    .. "Parts are those of net:upto.",
    "local net = nn.mlp { 2, 8, 3 }\nlocal s = nn.stitch(net, \"act1\", nn.mlp { 2, 5, 4, 3 }, \"act2\")\n"
    .. "print(table.concat(s:init {}:names(), \" \"))\n"
    .. "-- > a.fc1.weight a.fc1.bias stitch.weight stitch.bias b.fc3.weight b.fc3.bias",
    function(a, at, b, behind, o)
      check("nn.stitch", o, { "input" })
      return module.new(a, at, b, behind, o)
    end)
end

return module
