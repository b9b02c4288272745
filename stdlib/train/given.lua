-- SPDX-License-Identifier: Apache-2.0
-- What the arguments of several functions of train have to be, and what is said where they are not.
local told = require "nn.told"

return function(core)
  local given = {}

  local function fail(what, text, ...) error(what .. ": " .. text:format(...), 0) end

  given.shown = require "expect"(core.kind).shown

  -- A table of options whose names are looked at elsewhere; an empty one where there is none.
  function given.options(what, o)
    if o ~= nil and core.kind(o) ~= "table" then fail(what, "expected a table of options, got %s", core.kind(o)) end
    return o or {}
  end

  -- field: nil, or what is of one of these kinds.
  function given.field(what, o, field, expected, ...)
    local of = core.kind(o[field])
    if o[field] == nil then return nil end
    for _, kind in ipairs { ... } do
      if of == kind then return o[field] end
    end
    fail(what, "%s is %s, got %s", field, expected, of)
  end

  -- A seed, or several by name.
  function given.seed(what, seed)
    for _, v in pairs(core.kind(seed) == "table" and seed or { seed }) do
      if math.type(v) ~= "integer" or v < 0 then
        fail(what, "seed is a whole number, at least 0, or {init =, order =, augment =, dropout =}, got %s",
          given.shown(v))
      end
    end
  end

  -- The methods of a class as functions that look at whom they are called of: `average.add(m)` is told.
  function given.of(class, name, inner) -- ??name at the prompt looks for `inner`
    return told(function(self, ...)
      if core.kind(self) == class then return inner(self, ...) end
      error(("%s: expected the %s, got %s (write a colon, x:%s)"):format(name, class, core.kind(self),
        name:match "[^:]+$"), 0)
    end)
  end

  return given
end
