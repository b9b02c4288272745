-- SPDX-License-Identifier: Apache-2.0
-- What is gathered along a run: a value that is shown models, one after the other, and says what came of
-- them. The same value watches train.fit from its callbacks and walks over checkpoints in files, so there is
-- one way to compute. A rule says which numbers are kept (flat tables name -> tensor and lists of them, in
-- self.kept, and plain values, in self.plain): a checkpoint of train.fit takes them along.
return function(check, core)
  local leaves = require "train.leaves"(core)
  local given = require "train.given"(core)
  local Average = {}
  Average.__index = Average
  Average.__name = "average"
  Average.__metatable = false

  local module = {}

  function module.whole(name, o, field, least)
    local v = o and o[field]
    if v ~= nil and (math.type(v) ~= "integer" or v < least) then
      error(("%s: %s must be a whole number, at least %d, got %s"):format(name, field, least, given.shown(v)), 4)
    end
  end

  function module.number(name, o, field, low, high)
    local v = o and o[field]
    if v ~= nil and (type(v) ~= "number" or not (v >= low and v <= high)) then
      error(("%s: %s must be a number from %g to %g, got %s"):format(name, field, low, high, given.shown(v)), 4)
    end
  end

  function module.copied(x)
    return leaves.map(x, function(t) return t:clone() end)
  end

  -- rule: add(self, x, m, step, info) with x the floating tensors of m; value(self) -> the average as a table
  -- like x, or a model; methods beside these become methods of the value.
  function module.new(name, o, rule)
    local self = { name = name, options = o, rule = rule, n = 0, kept = {}, plain = {} }
    for key, f in pairs(rule.methods or {}) do self[key] = given.of("average", "average:" .. key, f) end
    return setmetatable(self, Average)
  end

  function module.options(name, o, own)
    local names = { "from", "every", table.unpack(own) }
    check(name, o, names)
    module.whole(name, o, "from", 0)
    module.whole(name, o, "every", 1)
    local copy = {}
    for key, v in pairs(o or {}) do copy[key] = v end
    return copy
  end

  function Average:__tostring()
    return ("%s of %d model%s"):format(self.name, self.n, self.n == 1 and "" or "s")
  end

  -- ---- being shown models ----

  -- A model in memory; half precisions are widened once, as train.fit does.
  local function shown(self, m)
    if core.kind(m) ~= "model" then
      error(("%s: expected a model, got %s"):format(self.name, core.kind(m)), 3)
    end
    m = m:load()
    local x = leaves.map(leaves.flatten(m, self.name), function(t)
      return t.dtype ~= "f64" and t.dtype ~= "f32" and t:to "f32" or t
    end)
    local before = self.names
    if not before then
      self.names = leaves.names(x)
    else
      for _, name in ipairs(before) do
        if not x[name] then error(("%s: a model has no %s, the first had"):format(self.name, name), 3) end
      end
    end
    return m, x
  end

  function Average:add(m, step, loss)
    local x
    for what, v in pairs { step = step, loss = loss } do
      if type(v) ~= "number" then error(("%s: %s is a number, got %s"):format(self.name, what, core.kind(v)), 2) end
    end
    m, x = shown(self, m)
    self.seen = (self.seen or 0) + 1
    self.rule.add(self, x, m, step or self.seen, loss)
    self.last = m
    return self
  end

  -- Does the model of this step count? (In dense rules each does, and every says something else.)
  local function due(self, step)
    local o = self.options
    return step >= (o.from or 0) and (self.rule.dense or step % (o.every or 1) == 0)
  end

  function Average:over(where, o)
    local name = self.name .. ":over"
    check(name, o, { "step" })
    local models, steps = where, nil
    if type(where) == "string" then
      models, steps = model.checkpoints(where, o)
    elseif core.kind(where) ~= "table" or #where == 0 then
      error(name .. ": expected a folder of checkpoints, or a list of models, got " .. core.kind(where), 2)
    end
    for i, m in ipairs(models) do
      local step = steps and steps[i] or i
      if due(self, step) then self:add(m, step) end
    end
    return self
  end

  -- The callbacks that this is in a run of train.fit.
  function Average:watch(lists)
    if self.rule.watch then return self.rule.watch(self, lists) end
    local list = self.options.every and lists.step or lists.epoch
    list[#list + 1] = function(info)
      if due(self, info.step) then self:add(info.theta(), info.step) end
    end
  end

  -- ---- in a checkpoint of train.fit ----

  -- All keys texts, all values tensors; models as tables of theirs.
  local function packed(x)
    if core.kind(x) == "model" then return leaves.flatten(x, "train.fit") end
    if type(x) ~= "table" then return x end
    local out = {}
    for key, v in pairs(x) do out[tostring(key)] = packed(v) end
    return out
  end

  -- -> nested tables of tensors, plain values
  function Average:state()
    local kept = self.rule.state and self.rule.state(self) or self.kept
    return packed(kept), { n = self.n, seen = self.seen, rule = self.plain }
  end

  -- A list again of what packed() made of one.
  function module.list(x)
    local out = {}
    while x and x[tostring(#out + 1)] do out[#out + 1] = x[tostring(#out + 1)] end
    return out
  end

  -- m: the model that the run goes on from.
  function Average:restore(kept, plain, m)
    self.n, self.seen, self.plain, self.last = plain.n, plain.seen, plain.rule, m
    self.kept = self.rule.restore and self.rule.restore(self, kept, m) or kept
  end

  -- ---- what came of it ----

  function Average:model(net, data)
    if self.n == 0 then error(self.name .. ": no model has been counted yet", 2) end
    local value = self.rule.value(self)
    local m = core.kind(value) == "model" and value or core.with_values(self.last, value)
    if net == nil then return m end
    if data == nil then
      error(self.name .. ":model: the statistics of batch norms are taken over data; give a set", 2)
    end
    return eval.bn_reset(net, m, data)
  end

  -- Models in a list, from such a list of tables.
  function module.models(kept, m)
    local out = {}
    for i, x in ipairs(module.list(kept)) do out[i] = core.with_values(m, x) end
    return out
  end

  for _, name in ipairs { "add", "over", "model" } do
    Average[name] = given.of("average", "average:" .. name, Average[name])
  end

  module.due = due
  module.class = Average
  return module
end
