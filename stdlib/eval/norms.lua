-- SPDX-License-Identifier: Apache-2.0
-- Statistics of batch normalisation, taken anew. A mean of weights comes with running statistics that were
-- taken for neither; one pass over the data gives those that fit (Izmailov et al. 2018).
return function(define, check, core)
  local loss = require "nn.loss"
  local net_of = require "nn.net"
  local what = "eval.bn_reset"

  local runs = setmetatable({}, { __mode = "k" }) -- net -> { all, order, by place }

  local function compiled(net, reset)
    return compile(function(theta, batch, key)
      local _, state = net_of.run(net, theta, batch, { mode = "train", key = key, reset = reset })
      return state or {}
    end)
  end

  -- What is computed of a batch: the moments of all norms, as each of them normalises it, or those of one norm behind
  -- others that stand still. `order` lists where the norms' tensors live as they are met; a frozen one is not.
  local function runs_of(net)
    if not runs[net] then
      local met, order = {}, {}
      runs[net] = { order = order, one = {}, all = compiled(net, function(place)
        if not met[place] then
          met[place] = true
          order[#order + 1] = place
        end
        return "take"
      end) }
    end
    return runs[net]
  end

  local function alone(net, own, place)
    own.one[place] = own.one[place] or compiled(net, function(at) return at == place and "take" or "use" end)
    return own.one[place]
  end

  -- Moments of several sets of rows as those of all (Chan, Golub, LeVeque 1979), in f64: {rows, mean, var over rows}.
  local function join(all, state, place)
    local n = state[place .. "rows"]:item()
    local mean, var = state[place .. "running_mean"]:to "f64", state[place .. "running_var"]:to "f64"
    local a = all[place]
    if not a then
      all[place] = { rows = n, mean = mean, var = var }
      return
    end
    local total, d = a.rows + n, mean - a.mean
    a.var = (a.var * a.rows + var * n + d * d * (a.rows * n / total)) / total
    a.mean, a.rows = a.mean + d * (n / total), total
  end

  -- What is written for a norm: its mean, and its variance over n - 1 or (among norms that go on) over n.
  local function write(out, place, a, like, unbiased)
    if a.rows < 2 then
      error(("%s: %s has one value a channel; running statistics need two"):format(what,
        place == "" and "the norm" or place:gsub("%.$", "")), 0)
    end
    local mean, var = place .. "running_mean", place .. "running_var"
    out[mean] = a.mean:to(like[mean].dtype)
    out[var] = (unbiased and a.var * (a.rows / (a.rows - 1)) or a.var):to(like[var].dtype)
  end

  -- ways[statistics](net, theta by name, chunks: () -> an iterator of batch, key) -> {buffer = its new value}
  local ways = {}

  function ways.pooled(net, theta, chunks)
    local own, all, out = runs_of(net), {}, {}
    for batch, key in chunks() do
      local state = own.all(theta, batch, key)
      for _, place in ipairs(own.order) do join(all, state, place) end
    end
    for place, a in pairs(all) do write(out, place, a, theta, true) end
    return out
  end

  -- PyTorch's: the mean over batches, all counting the same.
  function ways.batches(net, theta, chunks)
    local own, mean, k = runs_of(net), {}, 0
    for batch, key in chunks() do
      k = k + 1
      local state, new = own.all(theta, batch, key), {}
      for _, place in ipairs(own.order) do
        local one = {}
        join(one, state, place)
        write(new, place, one[place], theta, true)
      end
      for name, t in pairs(new) do mean[name] = k == 1 and t or mean[name] + (t - mean[name]) / k end
    end
    return mean
  end

  -- One norm after the other, those before it as they are in the whole: over n, as a batch of all data has it.
  function ways.exact(net, theta, chunks)
    local own, now, all, out = runs_of(net), {}, {}, {}
    own.all(theta, chunks()()) -- now the order is known
    for name, t in pairs(theta) do now[name] = t end
    for _, place in ipairs(own.order) do
      local run = alone(net, own, place)
      for batch, key in chunks() do join(all, run(now, batch, key), place) end
      write(now, place, all[place], theta, false)
    end
    for place, a in pairs(all) do write(out, place, a, theta, true) end
    return out
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
    check(what, o, { "batch", "key", "statistics" })
    local how = o and o.statistics or "pooled"
    local way = ways[how]
    if not way then
      error(("%s: statistics = %q; expected \"pooled\", \"batches\" or \"exact\""):format(what, tostring(how)), 2)
    end
    if not net_of.is(net) then error(("%s: expected a network, got %s"):format(what, core.kind(net)), 2) end
    if type(data) ~= "table" or core.kind(data.x) ~= "tensor" then
      error(("%s: expected a data set, a batch or { x =, y = }, got %s"):format(what, core.kind(data)), 2)
    end
    for field, least in pairs { batch = 1, key = math.mininteger } do
      local v = o and o[field]
      if v ~= nil and (math.type(v) ~= "integer" or v < least) then
        error(("%s: %s is a whole number%s, got %s"):format(what, field, least == 1 and ", at least 1" or "",
          type(v) == "number" and v or core.kind(v)), 2)
      end
    end
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
    local key = tensor({ o and o.key or 0 }, { dtype = "i64" })
    local count, chunk = loss.chunks_of(data, o and o.batch or 256)
    local mean = way(net, input, function()
      local k = 0
      return function()
        k = k + 1
        if k <= count then return { x = chunk(k).x }, key end
      end
    end)
    for name in pairs(counts) do -- PyTorch's checkpoints have it
      local new = mean[(name:gsub("[^.]+$", "running_mean"))] -- a frozen norm has none
      if all[name] and new then mean[name] = tensor.full({ 1 }, count, { dtype = all[name].dtype }) end
    end
    return again(mean)
  end

  define("eval.bn_reset", "eval.bn_reset(net, theta, data, {statistics = \"pooled\", batch = 256, key = 0}) -> theta",
    "theta with the running statistics of its batch norms taken anew. Needed after weights were averaged or merged "
    .. "(Izmailov et al. 2018, arXiv:1803.05407). A network without such statistics gets theta back.\n"
    .. "  statistics: \"pooled\": in one pass, mean and variance (over n - 1) of all rows of all batches "
    .. "together; each "
    .. "batch is normalised by its own statistics on the way, which deeper norms see (of the order of 1 / batch). "
    .. "\"batches\": the mean over the batches of theirs, all counting the same, as PyTorch's update_bn does it "
    .. "(momentum = None): the differences between the batches' means are lost, and a short last batch counts "
    .. "too much. "
    .. "\"exact\": norm after norm, each behind those before as they are over all data: what one batch of all data "
    .. "gives, in any batch size; about as many passes as half of the norms\n"
    .. "  key: of dropout, which is on",
    "local net = nn.sequential { nn.batch_norm(1) }\nlocal d = { x = tensor { {1}, {3}, {5}, {9} } }\n"
    .. "for _, how in ipairs { \"pooled\", \"batches\" } do\n"
    .. "  local theta = eval.bn_reset(net, net:init {}, d, { batch = 2, statistics = how })\n"
    .. "  print(theta[\"0.running_mean\"][1], (\"%.4f\"):format(theta[\"0.running_var\"][1]))\nend\n"
    .. "-- > 4.5\t11.6667\n-- > 4.5\t5.0000", reset)
end
