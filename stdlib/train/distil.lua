-- SPDX-License-Identifier: Apache-2.0
-- Distillation: a network learns what a teacher says, mostly an ensemble. The teacher runs inside the training step,
-- on the very batch that the student sees, so augmentation and sequences need nothing more.
return function(define, check, core)
  local nn_loss = require "nn.loss"
  local nn_net = require "nn.net"
  local given = require "train.given"(core)
  local what = "train.distil"
  local own = { teacher = true, theta = true, temperature = true, labels = true }

  local function fail(text, ...) error(what .. ": " .. text:format(...), 0) end

  local function loaded(theta)
    local list = nn_net.list(theta)
    if not list then
      if core.kind(theta) == "table" then return theta end
      if core.kind(theta) ~= "model" then
        fail("theta is the teacher's model, or a list of models for an ensemble, got %s", core.kind(theta))
      end
      return theta:load()
    end
    local out = {}
    for k, one in ipairs(list) do out[k] = loaded(one) end
    return out
  end

  local function number(name, v, low, high)
    if type(v) ~= "number" or not (v >= low and v <= high) then
      fail("%s is a number from %g to %g, got %s", name, low, high, given.shown(v))
    end
    return v
  end

  local function distil(net, set, options)
    local o, fit = given.options(what, options), {}
    for name, v in pairs(o) do fit[name] = not own[name] and v or nil end
    if not nn_net.is(net) then fail("expected a network, got %s", core.kind(net)) end
    if o.loss ~= nil then fail "the loss is the distance from the teacher; labels = a share adds that of the labels" end
    local theta = loaded(o.theta)
    local teacher = o.teacher or nn.ensemble(net)
    if not nn_net.is(teacher) then fail("teacher is a network, got %s", core.kind(teacher)) end
    local heat = number("temperature", o.temperature or 1, 1e-3, 1e3)
    local share = number("labels", o.labels or 0, 0, 1)
    local of_labels = share > 0 and nn_loss.loss_of(net, { loss = "cross_entropy", ignore_index = o.ignore_index,
      label_smoothing = o.label_smoothing })
    function fit.loss(z, batch)
      local t = teacher(theta, batch)
      local far = (t / heat):kl_div(z / heat) * heat ^ 2
      return share > 0 and (1 - share) * far + share * of_labels(z, batch) or far
    end
    return train.fit(net, set, fit)
  end

  define(what, "train.distil(net, data, {theta = {a, b, …}, teacher = nn.ensemble(net), temperature = 1, labels = 0, "
    .. "…}) -> theta, log",
    "Trains a network to say what a teacher says (Hinton, Vinyals and Dean 2015, arXiv:1503.02531): the loss is (1 - "
    .. "labels) T^2 KL(p || q), where p is the teacher's output divided by the temperature T and q the student's, both "
    .. "through the softmax, plus labels times the cross entropy with the labels of the data. Without the latter the "
    .. "data need none.\n"
    .. "  theta: the teacher's models, a list, or one model\n"
    .. "  teacher: their network; an ensemble of the student's network where none is given\n"
    .. "All other options are those of train.fit, but for loss. Each step runs the teacher on its batch.",
    "local d, net = data.two_moons { n = 200, seed = 1 }, nn.mlp { 2, 16, 2 }\nlocal models = {}\n"
    .. "for s = 1, 3 do models[s] = train.fit(net, d, { epochs = 10, batch = 50, lr = 0.02, seed = s }) end\n"
    .. "local small = nn.mlp { 2, 8, 2 }\n"
    .. "local theta, log = train.distil(small, d, { theta = models, teacher = nn.ensemble(net), epochs = 20, batch = "
    .. "50, lr = 0.02 })\n"
    .. "print(log[20].loss < log[1].loss / 4, eval.accuracy(small, d)(theta) > 0.8)\n-- > true\ttrue", distil)
end
