-- SPDX-License-Identifier: Apache-2.0
-- Trained pairs of MLPs: the maps that matching by activations finds, barriers before and after it, after repair, and
-- for blends of weights and activations.
local stored = require "stored_pairs"
if not stored then return end

for _, name in ipairs { "sgd128", "adam128" } do
  local net = nn.mlp { 784, 128, 128, 10 }
  local a, b, maps, about = stored.opened(name)
  local set, pair = stored.data.train:take(10000), about.stored_pair
  local p = align.activations(net, a, b, { data = set, batch = 500 })
  assert(p.exact and p.change < 1e-5)
  for k, c in ipairs(stored.ids_of(p)) do
    local same, n = stored.agrees(p, net, a, b, maps:tensor("act_match.h" .. k), set, c, "fc" .. k + 1)
    print(("%s layer %d: %d of %d indices as stored"):format(name, k, same, n))
  end
  local moved = stored.by_stored(b, maps)
  for _, where in ipairs { "train10k", "test" } do
    local f = net:loss(where == "test" and stored.data.test or set, { batch = 5000 })
    stored.compare(name .. " naive, " .. where, f, stored.path_of(about, pair, "naive", where), { 1, 9, 13, 25 },
      function(t) return (1 - t) * a + t * b end)
    stored.compare(name .. " matched, " .. where, f, stored.path_of(about, pair, "act_match", where), { 1, 9, 13, 17, 25 },
      function(t) return (1 - t) * a + t * moved end)
  end
  local f = net:loss(set, { batch = 5000 })
  stored.compare(name .. " matched and repaired, train10k", f, stored.path_of(about, pair, "act_match_repair", "train10k"), { 9, 13, 17 },
    function(t) return (align.repair(net, a, moved, { data = set, t = t, batch = 1000 })) end)
  local own = p:apply(b) -- in which dead features may be matched otherwise
  local line = stored.barrier(f, function(t) return (1 - t) * a + t * own end, 25)
  assert(math.abs(line - about.paths[pair].act_match.train10k.barrier_loss) < 1e-3)
  local kinds = {}
  for _, kind in ipairs { "repair", "closed_form", "rescale" } do
    kinds[#kinds + 1] = ("%s %.4f"):format(kind, stored.barrier(f, function(t)
      return (align.repair(net, a, own, { data = set, t = t, kind = kind, batch = 1000 }))
    end, 5))
  end
  print(("%s barriers on train10k: matched %.4f; %s"):format(name, line, table.concat(kinds, ", ")))
end

-- Blends of weights and activations.
do
  local net = nn.mlp { 784, 128, 128, 10 }
  local a, b = stored.opened "sgd128"
  local set = stored.data.train:take(2000)
  local f = net:loss(set, { batch = 1000 })
  for _, v in ipairs { 0, 0.25, 0.5, 0.75, 1 } do
    local p = align.mudsc(net, a, b, { data = set, f = v })
    print(("sgd128 mudsc, f = %.2f: loss in the middle %.4f"):format(v, f(0.5 * a + 0.5 * p:apply(b))))
    assert(p.change < 1e-5)
  end
end
