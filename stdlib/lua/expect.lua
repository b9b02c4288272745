-- SPDX-License-Identifier: Apache-2.0
-- What arguments are, said once in the words of the message: expect(what, options, { log = "a function", seed = "a
-- whole number" }) raises "what: log is a text, expected a function". Options that are nil or false are left out.
-- kind(x) is the library's name of what x is; fail(text), where it is given, raises.
local words = { string = "a text", ["nil"] = "nothing", ["function"] = "a function", integer = "a whole number" }

return function(kind, fail)
  fail = fail or function(text) error(text, 0) end
  local function number(v) return type(v) == "number" and v == v end
  local function whole(least) -- 1e3 is one too
    return function(v) return type(v) == "number" and math.tointeger(v) ~= nil and v >= least end
  end
  local function of(...)
    local kinds = {}
    for _, name in ipairs { ... } do kinds[name] = true end
    return function(v) return kinds[kind(v)] == true end
  end

  local fits
  fits = {
    ["a number"] = number,
    ["a number above 0"] = function(v) return number(v) and v > 0 end,
    ["a number from 0"] = function(v) return number(v) and v >= 0 end,
    ["a whole number"] = whole(math.mininteger),
    ["a whole number from 0"] = whole(0),
    ["a whole number from 1"] = whole(1),
    ["a text"] = of "string",
    ["the path of a file"] = of "string",
    ["the path of a folder"] = of "string",
    ["a table"] = of "table",
    ["a model"] = of "model",
    ["a tensor"] = of "tensor",
    ["a model, a tensor or a table of tensors"] = of("model", "tensor", "table"),
    ["a number or a list of numbers"] = function(v) return fits["a number"](v) or fits["a list of numbers"](v) end,
    ["a model or a table of tensors"] = of("model", "table"),
    ["a list of numbers"] = function(v)
      if kind(v) ~= "table" or #v == 0 then return false end
      for i = 1, #v do
        if not number(v[i]) then return false end
      end
      return true
    end,
    ["a list of texts"] = function(v)
      if kind(v) ~= "table" then return false end
      for _, item in pairs(v) do
        if type(item) ~= "string" and type(item) ~= "number" then return false end
      end
      return true
    end,
    ["a function"] = function(v)
      if type(v) == "function" then return true end
      local meta = getmetatable(v)
      return type(meta) == "table" and meta.__call ~= nil
    end,
  }
  fits["a function or the path of a file"] = function(v) return type(v) == "string" or fits["a function"](v) end
  fits["a network"] = function(v) return require "nn.net".is(v) end

  local expect = {}

  -- How a value is called: "a text", "a model", "-1.5".
  function expect.called(v)
    if type(v) == "number" then return tostring(v) end
    local name = kind(v)
    return words[name] or "a " .. name
  end

  -- A value as messages show it: a number, a text or a boolean itself, of all else what it is.
  function expect.shown(v)
    if type(v) == "string" and tonumber(v) then return "the text " .. v end
    local plain = type(v) == "string" or type(v) == "number" or type(v) == "boolean"
    return plain and tostring(v) or kind(v)
  end

  function expect.fits(v, want) return fits[want](v) end

  -- One argument; name: what it is called, nil where the function has no name for it.
  function expect.one(what, name, v, want)
    if fits[want](v) then return v end
    if name then fail(("%s: %s is %s, expected %s"):format(what, name, expect.called(v), want)) end
    fail(("%s: expected %s, got %s"):format(what, want, expect.called(v)))
  end

  local function options(what, o, wanted)
    local names = {}
    for name in pairs(wanted) do names[#names + 1] = name end
    table.sort(names) -- the same mistakes, the same message
    for _, name in ipairs(names) do
      if o and o[name] then expect.one(what, name, o[name], wanted[name]) end
    end
  end

  -- check(what, options, names) of a module whose options of one name are of one kind in all its functions.
  function expect.checker(check, wanted)
    return function(what, o, ...)
      check(what, o, ...)
      options(what, o, wanted)
    end
  end

  return setmetatable(expect, { __call = function(_, ...) return options(...) end })
end
