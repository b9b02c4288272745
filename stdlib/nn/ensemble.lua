-- SPDX-License-Identifier: Apache-2.0
-- An ensemble as a network: it is called with a list of models in the place of one, runs a member for each and
-- joins their outputs. What comes out are logits (log probabilities, where it is probabilities that are joined), so
-- losses, scores and distillation take it like any other network. Weights may depend on the input: the posterior of
-- branch-train-merge and the router of its clustered form are functions that say how much each member counts where.
local net = require "nn.net"
local nearest = require "nearest"

local module = {}

-- ---- joining: z [members, .., classes], w log weights [members, .. or 1, 1], which sum to one ----

local joins = {
  probabilities = function(z, w) return (z:log_softmax(-1) + w):logsumexp(1) end,
  logits = function(z, w) return (z * w:exp()):sum(1) end,
  vote = function(z, w)
    local classes = z.shape[z.rank]
    local voted = z:argmax(-1, { keepdim = true }):eq(tensor.range(classes))
    return (voted:to(z.dtype) * w:exp()):sum(1):log()
  end,
  max_confidence = function(z)
    local p = z:log_softmax(-1)
    local best, sure = p[1], p[1]:max(-1, { keepdim = true })
    for k = 2, z.shape[1] do
      local other = p[k]:max(-1, { keepdim = true })
      best, sure = tensor.where(other:gt(sure), p[k], best), tensor.maximum(sure, other)
    end
    return best
  end,
}

-- Log weights where all but the `top` largest of each place are left out; of equal ones the first stay.
local function chosen(w, top)
  if not top or top >= w.shape[1] then return w end
  local place = w:argsort(1, { descending = true }):argsort(1)
  return w:masked_fill(place:gt(top), -math.huge)
end

-- ---- weights ----

local function ones(n)
  local out = {}
  for i = 1, n do out[i] = 1 end
  return out
end

-- Numbers as shares; all the same where there are none.
local function shares(what, list, n)
  if list ~= nil and type(list) ~= "table" then
    net.fail("%s: expected a list of weights, one a member, got %s", what, net.kind(list))
  end
  list = list or ones(n)
  if #list ~= n then net.fail("%s: %d weights for %d members", what, #list, n) end
  local sum, out = 0, {}
  for k, v in ipairs(list) do
    if type(v) ~= "number" or not (v >= 0 and v < math.huge) then
      net.fail("%s: weight %d is %s; expected a number, at least 0", what, k, net.shown(v))
    end
    sum = sum + v
  end
  if sum == 0 then net.fail("%s: all weights are 0", what) end
  for k, v in ipairs(list) do out[k] = v / sum end
  return out
end
module.shares = shares

-- A list of numbers as their logarithms, [members, 1, …] for tensors of that rank.
local function logs(list, rank, dtype)
  local shape = ones(rank)
  shape[1] = #list
  return tensor(list, { dtype = dtype }):log():reshape(shape)
end

-- Log weights [members, .., 1] from a function(x, z); z are the members' log probabilities.
local function routed(s, route, x, z, top)
  local w = route(x, z)
  if type(w) ~= "userdata" or w.shape[1] ~= z.shape[1] or w.rank > z.rank - 1 then
    s:fail("weights gave %s for outputs of shape %s; expected log weights of its first dimensions, members first",
      type(w) == "userdata" and "shape " .. tostring(w.shape) or type(w), tostring(z.shape))
  end
  local shape = w.shape
  for i = w.rank + 1, z.rank do shape[i] = 1 end
  return chosen(w, top):log_softmax(1):to(z.dtype):reshape(shape)
end

-- ---- the network ----

local function parts(nets)
  if net.is(nets) then return { { name = "member", net = nets, at = "" } } end
  if net.kind(nets) ~= "table" or #nets == 0 then
    net.fail("nn.ensemble: expected a network, or a list with one for each member, got %s", net.kind(nets))
  end
  local children = {}
  for k = 1, #nets do
    local n = nets[k]
    if not net.is(n) then net.fail("nn.ensemble: member %d is a %s, not a network", k, net.kind(n)) end
    children[k] = { name = tostring(k), net = n }
  end
  return children
end

-- The outputs of the members whose share is not 0, and those shares.
local function outputs(s, x, alike, weights)
  local list, children = s:members(), s[2].children
  local n = list and #list or alike and 1 or #children
  if not alike and n ~= #children then s:fail("%d models for %d networks", n, #children) end
  local share = type(weights) ~= "function" and shares("nn.ensemble", weights, n)
  local z, kept, dtype = {}, {}, nil
  for k = 1, n do
    if not share or share[k] > 0 then
      local name = alike and "member" or tostring(k)
      z[#z + 1] = list and s:under(list[k], k, name, x) or s:call(name, x)
      kept[#z] = share and share[k]
      dtype = (not dtype or z[#z].dtype == "f64") and z[#z].dtype or dtype
    end
  end
  for k, t in ipairs(z) do z[k] = t:to(dtype) end
  return tensor.stack(z, 1), share and kept
end

function module.new(nets, o)
  o = o or {}
  local combine, weights, top = o.combine or "probabilities", o.weights, o.top
  local join = type(combine) == "function" and combine or joins[combine]
  if not join then
    local near = nearest(tostring(combine), joins)
    net.fail("nn.ensemble: combine = %s; expected \"probabilities\", \"logits\", \"vote\", \"max_confidence\" or a "
      .. "function(z, weights)%s", net.shown(combine), near and ("; did you mean %q?"):format(near) or "")
  end
  local route = (type(weights) == "function" or getmetatable(weights) and getmetatable(weights).__call) and weights
  if weights ~= nil and not route and net.kind(weights) ~= "table" then
    net.fail("nn.ensemble: weights is a %s; expected one number a member, or a function", net.kind(weights))
  end
  if combine == "max_confidence" and weights then
    net.fail("nn.ensemble: the most confident member counts alone; \"max_confidence\" takes no weights")
  end
  if top and not (route and math.type(top) == "integer" and top >= 1) then
    net.fail("nn.ensemble: top is a whole number from 1, for weights that are a function")
  end
  local children = parts(nets)
  local alike, first = net.is(nets), children[1].net
  return net.new { kind = "ensemble", children = children, input = first.input, tokens = first.tokens,
    predicts = first.predicts, note = type(combine) == "string" and combine or "own",
    member = function(k) return children[alike and 1 or k].net end,
    forward = function(s, x)
      local z, share = outputs(s, x, alike, route or weights)
      if share then return join(z, logs(share, z.rank, z.dtype)) end
      local p = z:log_softmax(-1)
      return join(z, routed(s, route, x, p, top))
    end }
end

-- ---- weights that depend on the input ----

-- How probable each member is as the source of the tokens up to each place: its prior times the probability that it
-- gave to them, p(D | x_1 … x_t), where p are the log probabilities [members, n, t, classes] of what comes next.
function module.posterior(o)
  local prior = o.prior
  return function(x, p)
    local shape = p.shape
    local members, n, t = shape[1], shape[2], shape[3]
    if #shape ~= 4 or x.rank ~= 2 or x.dtype:find "f" then
      net.fail("nn.posterior: expected tokens [n, t] and networks that predict the next one at each place")
    end
    local before = logs(shares("nn.posterior", prior, members), 3, p.dtype)
    if t == 1 then return before:expand { members, n, 1 } end
    local seen = x[{ {}, { 2, t } }]:unsqueeze(1):expand { members, n, t - 1 }
    local told = -p[{ {}, {}, { 1, t - 1 } }]:cross_entropy(seen, { reduction = "none" })
    return before + tensor.cat({ tensor.zeros({ members, n, 1 }, { dtype = p.dtype }), told:cumsum(3) }, 3)
  end
end

-- Members by the distance of features from a centre of each: -|h(x) - c|^2 / temperature.
function module.router(o)
  local centres, h, temperature = o.centres, o.features, o.temperature or 0.1
  return function(x)
    local f, far = h(x), {}
    for k = 1, centres.shape[1] do
      local d = f - centres[k]
      far[k] = (d * d):sum(-1)
    end
    return tensor.stack(far, 1) * (-1 / temperature)
  end
end

-- ---- what scripts see ----

function module.define(public, check)
  local made = "local net = nn.mlp { 2, 8, 3 }\n"
    .. "local a, b, x = net:init { seed = 1 }, net:init { seed = 2 }, tensor { {1, 2} }\n"

  public("nn.ensemble", "nn.ensemble(net or {net1, net2, …}, {combine = \"probabilities\", weights =, top =}) -> net",
    "Many models as one predictor: a network whose parameters are a list of models, ens({a, b, …}, x), of any length; "
    .. "or of one for each of a list of networks. So eval.report(ens, data){a, b}, ens:loss(data) and train.distil "
    .. "take it like any network; a single model counts as a list of one. In training mode the second result holds the "
    .. "next values of buffers for each member.\n"
    .. "  combine: \"probabilities\": log of sum w_m softmax(f(x; theta_m)), the deep ensemble (Lakshminarayanan et "
    .. "al. 2017, arXiv:1612.01474); \"logits\": sum w_m f(x; theta_m); \"vote\": log of the share of members for each "
    .. "class, of equal shares the lower class wins; \"max_confidence\": what the member with the largest probability "
    .. "says; or a function(z, w) of all outputs [members, .., classes] and log weights [members, .. or 1, 1]\n"
    .. "  weights: one number a member, which are divided by their sum (default: all the same; members of weight 0 are "
    .. "not run); or a function(x, z) of the input and the members' log probabilities that gives log weights, "
    .. "[members, n] or [members, n, t], as nn.posterior and nn.router do\n"
    .. "  top: of weights by a function only the largest so many count, at each place",
    made .. "local p = nn.ensemble(net)({ a, b }, x):exp()\n"
    .. "print(p:equal(nn.ensemble(net)({ b, a }, x):exp()), math.abs(p:sum() - 1) < 1e-6)\n"
    .. "print(nn.ensemble(net, { weights = { 1, 0 }, combine = \"logits\" })({ a, b }, x):equal(net(a, x)))\n"
    .. "-- > true\ttrue\n-- > true",
    function(nets, o)
      check("nn.ensemble", o, { "combine", "weights", "top" })
      return module.new(nets, o)
    end)

  public("nn.posterior", "nn.posterior {prior =} -> function",
    "Weights of nn.ensemble for networks that predict the next token: how probable each member is as the source of "
    .. "what it has seen, p(D = j | x_1 … x_t) in proportion to prior_j p_j(x_2 … x_t), at each place t of [n, t] "
    .. "tokens (branch-train-merge, Li et al. 2022, arXiv:2208.03306). The first token is not scored; there the prior "
    .. "decides. prior: one number a member (default: all the same); forest:prior estimates it.",
    "local net = nn.gpt { vocab = 8, width = 8, layers = 1, heads = 1, context = 8 }\n"
    .. "local ens = nn.ensemble(net, { weights = nn.posterior { prior = { 3, 1 } }, top = 1 })\n"
    .. "local a, b, x = net:init { seed = 1 }, net:init { seed = 2 }, tensor({ {5} }, { dtype = \"i64\" })\n"
    .. "print(ens({ a, b }, x):equal(net(a, x):log_softmax()))\n-- > true",
    function(o)
      check("nn.posterior", o, { "prior" })
      if o and o.prior ~= nil and type(o.prior) ~= "table" then
        net.fail("nn.posterior: prior is a %s; expected one number a member", net.kind(o.prior))
      end
      return module.posterior(o or {})
    end)

  public("nn.router", "nn.router {centres = [members, d], features = function(x) -> [n, d] or [n, t, d], temperature = "
    .. "0.1} -> function",
    "Weights of nn.ensemble by distance: in proportion to exp(-|h(x) - c_j|^2 / temperature), c_j the j-th row of "
    .. "centres and h the features (cluster-BTM, Gururangan et al. 2023, arXiv:2303.14177). With top = 1 each example "
    .. "goes to the member whose centre is nearest.",
    made .. "local route = nn.router { centres = tensor { {0, 0}, {1, 2} }, features = function(t) return t end }\n"
    .. "print(nn.ensemble(net, { weights = route, top = 1 })({ a, b }, x):equal(net(b, x):log_softmax()))\n-- > true",
    function(o)
      check("nn.router", o, { "centres", "features", "temperature" })
      o = o or {}
      if type(o.features) ~= "function" and not (getmetatable(o.features) or {}).__call then
        net.fail("nn.router: features is a function of the input")
      elseif net.kind(o.centres) ~= "tensor" or o.centres.rank ~= 2 then
        net.fail("nn.router: centres is a tensor [members, d]")
      elseif o.temperature ~= nil and not (type(o.temperature) == "number" and o.temperature > 0) then
        net.fail("nn.router: temperature is a number above 0, got %s", tostring(o.temperature))
      end
      return module.router(o)
    end)
end

return module
