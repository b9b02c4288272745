-- SPDX-License-Identifier: Apache-2.0
-- Matching by simulated annealing (Entezari et al. 2022, arXiv:2110.06296): what is to be small may be anything that a
-- model gives, such as the loss half-way to a. Every step exchanges two places; worse states are accepted with the
-- probability exp(-rise / temperature), and the temperature falls.
return function(define, check, core)
  local layout_of = require "align.layout".of
  local map = require "align.map"(core)
  local expect = require "expect"(core.kind)
  local options = { "loss", "energy", "steps", "temperature", "moves", "seed", "start", "groups", "data", "pin", "free",
    "check", "log" }
  local DRAWS = 8192 -- random numbers at a time

  local function fail(text, ...) error("align.anneal: " .. text:format(...), 0) end

  -- State: rows of places (and signs) of each class as Lua numbers, and the tensors made of them.
  local function state_of(layout, classes, start)
    local s = { index = {}, sign = {}, maps = {} }
    for c, m in pairs(start or {}) do
      if not m.index then fail "the alignment to start from is soft" end
      s.maps[c] = m
    end
    for _, class in ipairs(classes) do
      local m = s.maps[class.id] or { index = map.identity_index(layout, class) }
      s.index[class.id] = m.index:totable()
      if map.may_flip(class) then
        s.sign[class.id] = (m.sign or tensor.ones(m.index.shape)):totable()
      end
    end
    return s
  end

  local function tensors_of(s, class)
    local c = class.id
    s.maps[c] = { index = tensor(s.index[c], { dtype = "i64" }), sign = s.sign[c] and tensor(s.sign[c]) or nil,
      under = class.under or {} }
  end

  -- One move in a class: two places exchanged, or a sign changed. Returns what undoes it.
  local function move(s, class, u)
    local rows = s.index[class.id]
    local r = 1 + math.floor(u() * #rows)
    local row, n = rows[r], class.size
    local i = 1 + math.floor(u() * n)
    local j = 1 + (i + math.floor(u() * (n - 1))) % n
    local signs = s.sign[class.id] and s.sign[class.id][r]
    if signs and u() < 0.5 then
      signs[i] = -signs[i]
      return function() signs[i] = -signs[i] end
    end
    local function exchange()
      row[i], row[j] = row[j], row[i]
      if signs then signs[i], signs[j] = signs[j], signs[i] end
    end
    exchange()
    return exchange
  end

  -- class -> the names of tensors that move with it.
  local function touched_by(layout, names, values)
    local out = {}
    for _, name in ipairs(names) do
      local about, seen = layout.tensors[name], {}
      for _, segments in ipairs(about and #about.shape == #values[name].shape and about.axes or {}) do
        for _, segment in ipairs(segments) do
          for _, f in ipairs(segment) do
            if f.class and not seen[f.class] then
              seen[f.class] = true
              out[f.class] = out[f.class] or {}
              table.insert(out[f.class], name)
            end
          end
        end
      end
    end
    return out
  end

  local function energy_of(o, a)
    if (o.loss == nil) == (o.energy == nil) then fail "give either loss or energy, a function of a model" end
    expect.one("align.anneal", o.loss ~= nil and "loss" or "energy", o.loss ~= nil and o.loss or o.energy, "a function")
    local f = o.energy
    if o.loss ~= nil then
      local half = 0.5 * a
      function f(m) return o.loss(half + 0.5 * m) end
    end
    return function(m)
      local v = f(m)
      if core.kind(v) == "tensor" then v = v:item() end
      if type(v) ~= "number" then fail("%s gave a %s, not a number", o.loss and "loss" or "energy", core.kind(v)) end
      return v
    end
  end

  -- Uniform numbers one after the other.
  local function numbers(seed)
    local draws, at, block = {}, 0, 0
    return function()
      if at == #draws then
        draws, at, block = tensor.rand({ DRAWS }, seed * 1000003 + block, { dtype = "f64" }):totable(), 0, block + 1
      end
      at = at + 1
      return draws[at]
    end
  end

  -- The walk over states: propose() makes a move and returns the model there and what takes it back.
  local function walk(layout, classes, b, s, u, moves)
    local values, names, loaded = map.values("align.anneal", b)
    local touches, moved = touched_by(layout, names, values), {}
    local function tensors_moved(which)
      local memo, done = {}, {}
      for _, class in ipairs(which) do
        for _, name in ipairs(touches[class.id] or {}) do
          if not done[name] then
            done[name] = true
            moved[name] = map.move(values[name], layout.tensors[name].axes, s.maps, memo)
          end
        end
      end
    end
    local function here()
      if loaded then return core.with_values(loaded, moved) end
      local out = {}
      for _, name in ipairs(names) do out[name] = moved[name] or values[name] end
      return out
    end
    for _, class in ipairs(classes) do tensors_of(s, class) end
    tensors_moved(classes)
    local function propose()
      local which = moves == "one" and { classes[1 + math.floor(u() * #classes)] } or classes
      local undo, maps, tensors = {}, {}, {}
      for k, class in ipairs(which) do
        maps[class.id] = s.maps[class.id]
        for _, name in ipairs(touches[class.id] or {}) do tensors[name] = moved[name] end
        undo[k] = move(s, class, u)
        tensors_of(s, class)
      end
      tensors_moved(which)
      return here(), function()
        for k = #undo, 1, -1 do undo[k]() end
        for c, m in pairs(maps) do s.maps[c] = m end
        for name, t in pairs(tensors) do moved[name] = t end
      end
    end
    return propose, here
  end

  local function checked(o)
    local steps, moves = o.steps or 50000, o.moves or "every"
    if math.type(steps) ~= "integer" or steps < 1 then fail("steps is a whole number, at least 1") end
    if moves ~= "every" and moves ~= "one" then fail('moves is "every" or "one", got %s', tostring(moves)) end
    if o.start ~= nil and not map.is(o.start) then fail("start is an alignment, got %s", core.kind(o.start)) end
    local hot, cold = table.unpack(o.temperature or {})
    for _, t in ipairs { hot, cold } do
      if type(t) ~= "number" or t <= 0 then fail "temperatures are above zero" end
    end
    return steps, moves, hot, cold
  end

  local function anneal(net, a, b, o)
    check("align.anneal", o, options)
    o = o or {}
    local steps, moves, hot, cold = checked(o)
    local layout = layout_of(net, { pin = o.pin, free = o.free, x = map.example("align.anneal", net, o.data) })
    local chosen, classes = map.chosen("align.anneal", layout, o.groups), {}
    for _, class in ipairs(map.classes(layout)) do classes[#classes + 1] = chosen(class) and class or nil end
    if #classes == 0 then fail "no group is left to move" end
    local energy, u = energy_of(o, a), numbers(o.seed or 0)
    local s = state_of(layout, classes, o.start and o.start.maps)
    local propose, here = walk(layout, classes, b, s, u, moves)
    local now = energy(here())
    local before, best, kept, accepted = now, now, {}, 0
    local function keep()
      for c, m in pairs(s.maps) do kept[c] = m end
    end
    keep()
    if not hot then -- what a move changes, on average
      local sum, trials = 0, 20
      for _ = 1, trials do
        local there, back = propose()
        sum = sum + math.abs(energy(there) - now)
        back()
      end
      hot = math.max(sum / trials, 1e-12)
    end
    cold = cold or hot / 1000
    local done = 0
    for step = 1, steps do
      done = step
      local t = hot * (cold / hot) ^ ((step - 1) / math.max(1, steps - 1))
      local there, back = propose()
      local e = energy(there)
      if e <= now or u() < math.exp((now - e) / t) then
        now, accepted = e, accepted + 1
        if e < best then
          best = e
          keep()
        end
      else
        back()
      end
      if o.log and step % 100 == 0
        and o.log { step = step, energy = now, best = best, temperature = t } == false then break end
    end
    return map.finish(map.new { net = net, layout = layout, maps = kept, method = "anneal",
      info = { energy = best, energy_before = before, accepted = accepted / done } }, a, b, o)
  end

  define("align.anneal", "align.anneal(net, a, b, {loss =, energy =, steps = 50000, temperature = {hot, cold}, moves = "
    .. "\"every\", seed = 0, start =, groups =, pin =, free =, data =, check = true, log =}) -> alignment",
    "Simulated annealing over the symmetry of the network (Entezari et al. 2022, arXiv:2110.06296): b is moved so "
    .. "that something becomes small. p.energy is what was reached, p.energy_before what b had, p.accepted the share "
    .. "of steps. Each step computes the function once, so this is for small networks or cheap functions.\n"
    .. "loss: a function of a model, such as net:loss(data); what becomes small is its value half-way between a and b "
    .. "moved\n"
    .. "  energy: in its place, a function of b moved\n"
    .. "  temperature: at the first and the last step; it falls by a constant factor (default: the mean change by a "
    .. "move, and a thousandth of that)\n"
    .. "  moves: \"every\": two places of every group are exchanged in a step, as in the paper; \"one\": of one "
    .. "group\n"
    .. "  start, groups, pin, free, data, check: as in align.weights\n"
    .. "  log: a function of { step, energy, best, temperature } every 100 steps; when it returns false the best so "
    .. "far is returned",
    "local net = nn.mlp { 3, 4, 2 }\nlocal a = net:init { seed = 1 }\n"
    .. "local b = align.random(net, { seed = 2 }):apply(a)\n"
    .. "local p = align.anneal(net, a, b, { energy = function(m) return (m - a):norm() end, steps = 400 })\n"
    .. "print(p.energy)\n-- > 0.0", anneal)
end
