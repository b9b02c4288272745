-- SPDX-License-Identifier: Apache-2.0
-- What layers of a network say about data, as matrices with a row for each example: what probes of representations
-- compare. Layers are parts of the network by path (net:summary lists them).
return function(core)
  local net_of = require "nn.net"
  local over = require "probe.over"(core)
  local progress = require "probe.progress"(core)
  local features = {}

  -- What passes through a layer: its outputs, or its inputs.
  local ways = { output = true, input = true }

  -- The paths that are asked for; where nothing is said, the layers that schedules by depth see.
  function features.layers(what, net, given)
    if not net_of.is(net) then error(("%s: expected a network, got %s"):format(what, core.kind(net)), 3) end
    if type(given) == "string" then given = { given } end
    if given ~= nil and (type(given) ~= "table" or #given == 0) then
      error(what .. ": layers is a path, or a list of them, as net:summary() shows", 3)
    end
    if given then
      net_of.wanted(net, given, "output") -- refuses what is no part
      return given
    end
    local paths, out = {}, {}
    net_of.walk(net, function(_, path) paths[path] = true end)
    for _, g in ipairs(net_of.structure(net).groups) do
      if g.place == "layer" and paths[g.name] then out[#out + 1] = g.name end
    end
    if #out == 0 then error(what .. ": give layers = {…}, the paths of parts of the network", 3) end
    return out
  end

  features.opened = over.whole

  -- each(seen, first, batch, sums) over data in chunks; seen[k] = {path = tensor} of the k-th of `thetas`, whose
  -- networks are nets[k] and whose layers are lists[k]. loop, sums: as in over.gathered, of a pass that a journal
  -- keeps.
  function features.over(what, nets, thetas, lists, data, o, each, loop, sums)
    local of = o.of or "output"
    if not ways[of] then error(what .. ": of is \"output\" or \"input\"", 3) end
    local run = {}
    for k, net in ipairs(nets) do
      run[k] = k > 1 and nets[k - 1] == net and lists[k - 1] == lists[k] and run[k - 1]
        or compile(function(theta, x) return net:capture(theta, x, lists[k], { of = of }) end)
    end
    local draw <close> = progress(what, nil, "examples")
    local function one(all, b, first)
      local seen = {}
      for k, theta in ipairs(thetas) do seen[k] = run[k](theta, b.x) end
      each(seen, first, b, all)
      draw(first + b.x.shape[1] - 1)
    end
    if loop then return over.gathered(what, data, o.batch or 1000, loop, sums, one) end
    return over.chunks(what, data, o.batch or 1000, function(b, first) one(nil, b, first) end)
  end

  local places = {}

  -- [n, …, c] -> [n, … c]: every place of an image, every token, has features of its own.
  function places.features(x)
    local shape, wide = x.shape, 1
    for d = 2, #shape do wide = wide * shape[d] end
    return x:reshape { shape[1], wide }
  end

  -- -> [n …, c]: places are examples.
  function places.rows(x)
    local shape = x.shape
    local c = #shape > 1 and shape[#shape] or 1
    return x:reshape { x:numel() // c, c }
  end

  -- -> [n, c]: the mean over places.
  function places.mean(x)
    local shape = x.shape
    if #shape < 3 then return places.features(x) end
    return x:reshape { shape[1], -1, shape[#shape] }:mean(2)
  end

  -- A function of tensors [n, …, c] that makes matrices.
  function features.flat(what, o)
    local name = o.places or "features"
    if not places[name] then
      error(("%s: places = %q; expected \"features\", \"rows\" or \"mean\""):format(what, tostring(name)), 3)
    end
    return places[name]
  end

  -- { {path = matrix}, … } for each of thetas, over all data.
  function features.all(what, nets, thetas, lists, data, o)
    local flat, parts = features.flat(what, o), {}
    for k = 1, #thetas do parts[k] = {} end
    local n = features.over(what, nets, thetas, lists, data, o, function(seen)
      for k, by_path in ipairs(seen) do
        for path, t in pairs(by_path) do
          parts[k][path] = parts[k][path] or {}
          table.insert(parts[k][path], flat(t))
        end
      end
    end)
    for k, by_path in ipairs(parts) do
      for path, list in pairs(by_path) do
        parts[k][path] = #list == 1 and list[1] or tensor.cat(list, 1)
      end
    end
    return parts, n
  end

  return features
end
