-- SPDX-License-Identifier: Apache-2.0
-- Learning-rate schedules: values that are called with a step, from 0, and give the rate of the update
-- that follows, in f64 by the formula that their documentation states. What belongs to a run (its
-- length, its base rate) may be left out where train.fit will know it.
return function(define, check, core)
  local Rate = { __name = "rate", __metatable = false }
  Rate.__index = Rate
  local pi, cos = math.pi, math.cos

  local function number(name, o, field, least, whole)
    local v = o[field]
    if v ~= nil and (type(v) ~= "number" or v < least or (whole and v % 1 ~= 0) or v ~= v) then
      error(("%s: %s must be a %snumber, at least %s, got %s"):format(name, field, whole and "whole " or "",
        tostring(least), type(v) == "number" and v or core.kind(v)), 4)
    end
  end

  Rate.__call = function(self, t)
    if type(t) ~= "number" then error(("%s: the step is a number, got %s"):format(self.name, core.kind(t)), 2) end
    local f = self.f
    if not f then
      for _, field in ipairs(self.needs) do
        if self.options[field] == nil then
          error(("%s: %s is not known yet; state it (train.fit knows lr and its length)"):format(self.name, field), 2)
        end
      end
      f = self.make(self.options)
      self.f = f
    end
    return f(t)
  end

  Rate.__tostring = function(self)
    local words = {}
    for _, field in ipairs(self.fields) do
      local v = self.options[field]
      if v ~= nil then words[#words + 1] = field .. " = " .. tostring(v) end
    end
    return self.name .. " { " .. table.concat(words, ", ") .. " }"
  end

  -- The schedule for a run of this length and base rate; what it states itself stays.
  function Rate:of(base, total)
    local o = {}
    for key, v in pairs(self.options) do o[key] = v end
    if o.base == nil then o.base = base end
    if o.total == nil then o.total = total end
    return setmetatable({ name = self.name, fields = self.fields, needs = self.needs, make = self.make, options = o },
      Rate)
  end

  local kinds = {}

  -- fields: name -> default, or false where there is none; whole numbers and least values beside.
  local function schedule(name, fields, needs, make, signature, text, example)
    local full = "train." .. name
    local function new(o)
      local names, options = {}, {}
      for i, field in ipairs(fields) do names[i] = field[1] end
      check(full, o, names)
      for _, field in ipairs(fields) do
        if o then number(full, o, field[1], field.least or 0, field.whole) end
        options[field[1]] = o and o[field[1]] or field.default
      end
      return setmetatable({ name = full, fields = names, needs = needs, make = make, options = options }, Rate)
    end
    kinds[name] = new
    define(full, signature, text, example, new)
  end

  local base, total = { "base" }, { "total", least = 1, whole = true }
  local warmup = { "warmup", default = 0, whole = true }

  schedule("constant", { base, warmup }, { "base" }, function(o)
    return function(t) return t < o.warmup and o.base * t / o.warmup or o.base end
  end, "train.constant {base =, warmup = 0} -> rate",
    "A schedule of one rate. t counts updates from 0; a rising line from 0 comes first where warmup > 0:\n"
    .. "base t / warmup for t < warmup, then base. In train.fit base is the option lr.",
    "print(train.constant { base = 0.1 }(7))\n-- > 0.1")

  schedule("steps", { base, { "every", least = 1, whole = true }, { "gamma", default = 0.1 } }, { "base", "every" },
    function(o)
      return function(t) return o.base * o.gamma ^ (t // o.every) end
    end, "train.steps {base =, every =, gamma = 0.1} -> rate",
    "A staircase: base gamma^floor(t / every) for update t, from 0.",
    "print(train.steps { base = 1, every = 30, gamma = 0.5 }(65))\n-- > 0.25")

  schedule("cosine", { base, total, warmup }, { "base", "total" }, function(o)
    local w, b = o.warmup, o.base
    return function(t)
      if t < w then return b * t / w end
      return b / 2 * (1 + cos(pi * (t - w) / (o.total - w)))
    end
  end, "train.cosine {base =, total =, warmup = 0} -> rate",
    "Half a cosine from base to 0 over total updates (Loshchilov & Hutter 2017, SGDR, arXiv:1608.03983), after a line "
    .. "up from 0: base t / warmup for t < warmup, then base/2 (1 + cos(pi (t - warmup)/(total - warmup))). In "
    .. "train.fit base is lr and total the length of the run.",
    "local rate = train.cosine { base = 1, total = 100 }\nprint(rate(0), rate(50))\n-- > 1.0\t0.5")

  schedule("linear", { base, total, warmup }, { "base", "total" }, function(o)
    local w, b = o.warmup, o.base
    return function(t)
      if t < w then return b * t / w end
      return b * (o.total - t) / (o.total - w)
    end
  end, "train.linear {base =, total =, warmup = 0} -> rate",
    "A line up from 0 over warmup updates, then a line down to 0: base t / warmup, then base (total - t)/(total - "
    .. "warmup).",
    "local rate = train.linear { base = 1, total = 100, warmup = 10 }\nprint(rate(5), rate(55))\n-- > 0.5\t0.5")

  schedule("one_cycle", { { "peak" }, base, total, { "pct", default = 0.3 }, { "first", default = 25, least = 1e-9 },
    { "last", default = 1e4, least = 1e-9 } }, { "total" }, function(o)
      local peak = o.peak or o.base
      if not peak then error("train.one_cycle: peak is not known yet; state it", 0) end
      local low = peak / o.first
      local stop = low / o.last
      local u = o.pct * (o.total + 1) - 1
      local function turn(x, y, f) return y + (x - y) / 2 * (1 + cos(pi * f)) end
      return function(t)
        if t <= u then return turn(low, peak, t / u) end
        return turn(peak, stop, (t - u) / (o.total - u))
      end
    end, "train.one_cycle {peak =, total =, pct = 0.3, first = 25, last = 1e4} -> rate",
    "One cycle (Smith & Topin 2018, Super-convergence, arXiv:1708.07120) in PyTorch's form, cosine both ways: from "
    .. "peak/first up to peak at update u = pct (total + 1) - 1, then down to peak/(first last). Without peak: lr of "
    .. "train.fit.",
    "local rate = train.one_cycle { peak = 1, total = 99, pct = 0.3 }\nprint(rate(0), rate(29))\n-- > 0.04\t1.0")

  schedule("snapshot", { base, total, { "cycles", default = 5, least = 1, whole = true } }, { "base", "total" },
    function(o)
      local span = -(-o.total // o.cycles)
      return function(t) return o.base / 2 * (cos(pi * (t % span) / span) + 1) end
    end, "train.snapshot {base =, total =, cycles = 5} -> rate",
    "Cosines that start again, of snapshot ensembles (Huang et al. 2017, arXiv:1704.00109): base/2 (cos(pi (t mod "
    .. "s)/s) + 1) with s = ceil(total / cycles). A member is taken at the end of each cycle, after update s, 2s, …",
    "local rate = train.snapshot { base = 1, total = 100, cycles = 4 }\nprint(rate(25), rate(37) < 0.6)\n-- > "
      .. "1.0\ttrue")

  schedule("fge", { base, { "low" }, { "cycle", least = 2, whole = true } }, { "base", "low", "cycle" },
    function(o)
      local b, l, c = o.base, o.low, o.cycle
      return function(t)
        local f = (t % c + 1) / c
        if f <= 0.5 then return (1 - 2 * f) * b + 2 * f * l end
        return (2 - 2 * f) * l + (2 * f - 1) * b
      end
    end, "train.fge {base =, low =, cycle =} -> rate",
    "The triangles of fast geometric ensembling (Garipov et al. 2018, arXiv:1802.10026): with f = (t mod cycle + 1) / "
    .. "cycle the line (1 - 2f) base + 2f low down to f = 1/2, then (2 - 2f) low + (2f - 1) base up. A member is "
    .. "taken at f = 1/2, where the rate is lowest.",
    "local rate = train.fge { base = 0.1, low = 0.001, cycle = 20 }\nprint(rate(9))\n-- > 0.001")

  -- What train.fit takes as schedule: one of these, its name, or a function of the step.
  return function(s, lr, steps)
    if s == nil then s = "constant" end
    if type(s) == "string" then
      if not kinds[s] then
        local near = require "nearest"(s, kinds)
        error(("train.fit: no schedule is called '%s'%s"):format(s,
          near and ("; did you mean '%s'?"):format(near) or ""), 3)
      end
      s = kinds[s]()
    end
    if core.kind(s) == "rate" then return s:of(lr, steps) end
    if type(s) ~= "function" then
      error("train.fit: schedule is a " .. core.kind(s) .. ", not one of train.cosine …, its name or a function of "
        .. "the step",
        3)
    end
    return s
  end
end
