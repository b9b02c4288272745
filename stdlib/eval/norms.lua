-- SPDX-License-Identifier: Apache-2.0
-- Statistics of batch normalisation, taken anew. A mean of weights comes with running statistics that were
-- taken for neither; one pass over the data gives those that fit (Izmailov et al. 2018).
return function(define, check, core)
  local loss = require "nn.loss"
  local net_of = require "nn.net"
  local what = "eval.bn_reset"

  local runs = setmetatable({}, { __mode = "k" }) -- net -> compiled

  -- The statistics of one batch, by buffer: running ones that move all the way.
  local function statistics_of(net)
    if not runs[net] then
      runs[net] = compile(function(theta, batch, key)
        local _, state = net_of.run(net, theta, batch, { mode = "train", key = key, momentum = 1 })
        return state or {}
      end)
    end
    return runs[net]
  end

  -- How theta is read and written: by name, and as it came. It may lack the last names.
  local function opened(theta, names, maybe)
    if core.kind(theta) == "table" then
      return theta, function(new)
        local out = {}
        for name, t in pairs(theta) do out[name] = new[name] or t end
        return out
      end
    elseif core.kind(theta) ~= "model" then
      error(("%s: expected a model or a table of tensors, got %s"):format(what, core.kind(theta)), 3)
    end
    local m, all = theta:load(), {}
    for _, name in ipairs(names) do all[name] = m:tensor(name) end
    for _, name in ipairs(m:names()) do
      if maybe[name] then all[name] = m:tensor(name) end
    end
    return all, function(new) return core.with_values(m, new) end
  end

  local function buffers_of(net)
    local names, buffers, counts = {}, {}, {}
    for _, p in ipairs(net:params()) do
      names[#names + 1] = p.name
      if p.buffer then
        buffers[#buffers + 1] = p.name
        counts[(p.name:gsub("[^.]+$", "num_batches_tracked"))] = true
      end
    end
    return names, buffers, counts
  end

  local reset
  function reset(net, theta, data, o)
    check(what, o, { "batch", "key" })
    if not net_of.is(net) then error(("%s: expected a network, got %s"):format(what, core.kind(net)), 2) end
    local list = net.member and net_of.list(theta)
    if list then -- an ensemble: each member for itself
      local out = {}
      for k, one in ipairs(list) do out[k] = reset(net.member(k), one, data, o) end
      return out
    end
    local names, buffers, counts = buffers_of(net)
    if #buffers == 0 then return theta end
    local all, again = opened(theta, names, counts)
    local input = {}
    for _, name in ipairs(names) do input[name] = all[name] end
    for _, name in ipairs(buffers) do input[name] = tensor.zeros_like(all[name]) end -- what was there does not count
    local key = tensor({ o and o.key or 0 }, { dtype = "i64" })
    local run, mean = statistics_of(net), {}
    local count, chunk = loss.chunks_of(data, o and o.batch or 256)
    for k = 1, count do
      for name, t in pairs(run(input, { x = chunk(k).x }, key)) do
        mean[name] = k == 1 and t or mean[name] + (t - mean[name]) / k
      end
    end
    for name in pairs(counts) do -- PyTorch's checkpoints have it
      if all[name] then mean[name] = tensor.full({ 1 }, count, { dtype = all[name].dtype }) end
    end
    return again(mean)
  end

  define("eval.bn_reset", "eval.bn_reset(net, theta, data, {batch = 256, key = 0}) -> theta",
    "theta with the running statistics of its batch norms taken anew: the mean over the batches of one pass, all "
    .. "counting the same, as PyTorch's update_bn does it (variances over n - 1). Needed after weights were "
    .. "averaged or "
    .. "merged (Izmailov et al. 2018, arXiv:1803.05407). A network without such statistics gets theta back. key: of "
    .. "dropout, which is on.",
    "local net = nn.sequential { nn.batch_norm(1) }\nlocal d = { x = tensor { {1}, {3}, {5}, {7} } }\n"
    .. "local theta = eval.bn_reset(net, net:init {}, d, { batch = 2 })\n"
    .. "print(theta[\"0.running_mean\"]:totable()[1], theta[\"0.running_var\"]:totable()[1])\n-- > 4.0\t2.0", reset)
end
