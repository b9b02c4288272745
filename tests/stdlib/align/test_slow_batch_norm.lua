-- SPDX-License-Identifier: Apache-2.0
-- A trained pair of convolutional networks with batch norms: maps by activations, and statistics taken anew.
local stored = require "stored_pairs"
if not stored then return end

-- A convolutional network with batch norms.
do
  local parts, channels, into = {}, { 12, 24, 48, 48 }, 1
  for i, n in ipairs(channels) do
    parts[#parts + 1] = { "conv" .. i, nn.conv2d(into, n, 3, { padding = 1, bias = false }) }
    parts[#parts + 1] = { "bn" .. i, nn.batch_norm(n) }
    parts[#parts + 1] = { "act" .. i, nn.activation "relu" }
    if i < 3 then parts[#parts + 1] = { "pool" .. i, nn.max_pool2d(2) } end
    into = n
  end
  parts[#parts + 1] = { "mean", nn.global_avg_pool() }
  parts[#parts + 1] = { "fc", nn.linear(48, 10) }
  local net = nn.sequential(parts, { input = { 28, 28, 1 } })
  local a, b, maps, about = stored.opened "vgg_bn"
  local set = stored.data.train:take(2000)
  local p = align.activations(net, a, b, { data = set, batch = 50 })
  assert(p.exact and p.change < 1e-5)
  for k, c in ipairs(stored.ids_of(p)) do
    local same = (p.maps[c].index[1] - 1):eq(maps:tensor("act_match.h" .. k)):to "i64":sum()
    print(("vgg_bn layer %d: %d of %d indices as stored"):format(k, math.tointeger(same), channels[k]))
    assert(same == channels[k])
  end
  local moved, f, repaired = p:apply(b), net:loss(set, { batch = 100 }), {}
  for _, t in ipairs { 0.3, 0.5 } do -- one batch, as the figures were made: it comes first, while there is room
    repaired[t] = align.repair(net, a, moved, { data = set, t = t, batch = 2000 })
  end
  stored.compare("vgg_bn matched", f, stored.path_of(about, "31-32", "act_match", "train2k"), { 1, 6, 11 },
    function(t) return (1 - t) * a + t * moved end)
  stored.compare("vgg_bn matched, statistics reset", f, stored.path_of(about, "31-32", "act_match_bn_reset", "train2k"),
    { 4, 6 }, function(t) return repaired[math.floor(10 * t + 0.5) / 10] end)
end
