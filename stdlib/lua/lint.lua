-- SPDX-License-Identifier: Apache-2.0
-- tarn lint: what is wrong with a script as far as it can be seen without running it. One pass over the
-- tokens follows scopes and, where a value plainly comes from a documented function, its type; options,
-- methods and results are those of the documentation rows. What it is not sure of it does not say.

local nearest, options, tokens = require "nearest", require "options", require "lint.tokens"

local Lint = {}
Lint.__index = Lint

-- Functions that a documented function calls: the types of their parameters.
local callbacks = { ["merge.map"] = { apply = { "tensors" }, stats = { "tensors" } } }
local binary = {} -- operator -> its priority, and on its right side
local levels = { "or", "and", "< > <= >= ~= ==", "|", "~", "&", "<< >>", "..", "+ -", "* / // %", "", "^" }
for level, words in ipairs(levels) do
  for word in words:gmatch "%S+" do binary[word] = { level, level - ((word == ".." or word == "^") and 1 or 0) } end
end
local UNARY = 11
local arithmetic = { ["+"] = true, ["-"] = true, ["*"] = true, ["/"] = true, ["//"] = true, ["%"] = true, ["^"] = true }

-- ---- findings ----

function Lint:say(token, format, ...)
  local _, line = self.text:sub(1, token.at - 1):gsub("\n", "")
  local before = self.text:sub(1, token.at - 1):match "[^\n]*$"
  self.found[#self.found + 1] = { line = line + 1, column = (utf8.len(before) or #before) + 1, at = token.at,
    length = #token.text, message = string.format(format, ...) }
end

local function meant(word, words)
  local near = nearest(word, words)
  return near and "; did you mean '" .. near .. "'?" or ""
end

-- ---- tokens ----

function Lint:peek() return self.tokens[self.i] end

function Lint:next()
  local t = self.tokens[self.i]
  self.i = self.i + (t.kind == "end" and 0 or 1)
  return t
end

-- True, and one token on, if the next is this keyword or operator.
function Lint:accept(word)
  local t = self:peek()
  local is = t.text == word and (t.kind == "keyword" or t.kind == "op")
  if is then self.i = self.i + 1 end
  return is
end

function Lint:at(word)
  local t = self:peek()
  return t.text == word and (t.kind == "keyword" or t.kind == "op")
end

-- ---- names ----

function Lint:open() self.scope = { names = {}, above = self.scope } end
function Lint:close() self.scope = self.scope.above end

function Lint:find(name)
  local scope = self.scope
  while scope and not scope.names[name] do scope = scope.above end
  return scope and scope.names[name]
end

function Lint:declare(token, kind)
  local name = token.text
  self.scope.names[name] = { kind = kind, hides = self.modules[name] and name }
end

-- The value of a name that is read.
function Lint:read(token)
  local var = self:find(token.text)
  if var then return var.kind, var end
  if self.modules[token.text] then return { module = token.text } end
  if self.once[token.text] == 1 then return self.globals[token.text] end
  if self.known[token.text] == nil then -- unless it is assigned somewhere below
    self.unknown[#self.unknown + 1] = token
  elseif options.doc(token.text) and not self.assigned[token.text] then
    return { calls = token.text }
  end
end

-- ---- types ----

-- A value of a documented type: { is = "tensor" }.
local function value(name)
  return (name == "tensor" or name == "model" or name == "tensors") and { is = name } or nil
end

local function returns(kind)
  local doc = kind and kind.calls and options.doc(kind.calls)
  return doc and value(options.result(doc))
end

local function is(kind, name) return kind ~= nil and kind.is == name end

local function combine(op, a, b)
  if not arithmetic[op] then return nil end
  if is(a, "tensor") or is(b, "tensor") then return value "tensor" end
  if is(a, "model") or is(b, "model") then return value "model" end
end

function Lint:compare(op, a, b)
  if (op.text == "==" or op.text == "~=") and not (a and a.none) and not (b and b.none) and
    (is(a, "tensor") or is(b, "tensor")) then
    self:say(op, "'%s' does not compare tensors: use tensor.equal(a, b) for one answer, a:eq(b) for one per "
      .. "element, and for a number a:item() %s …", op.text, op.text)
  end
end

-- ---- calls ----

-- A field of a module, or of a local that hides one.
function Lint:field(kind, var, token)
  if kind and kind.module then
    local fields = self.modules[kind.module]
    if fields[token.text] == nil then
      self:say(token, "%s.%s: no such function%s", kind.module, token.text, meant(token.text, fields))
      return nil
    end
    local name = kind.module .. "." .. token.text
    return options.doc(name) and { calls = name }
  end
  if var and var.hides and not kind and options.doc(var.hides .. "." .. token.text) then
    self:say(token, "the local '%s' hides the module, so %s.%s is not the function of that name", var.hides, var.hides,
      token.text)
  end
end

function Lint:method(kind, token)
  local owner = kind and (kind.is == "tensor" or kind.is == "model") and kind.is
  if not owner then return nil end
  local name = owner .. ":" .. token.text
  if options.doc(name) then return { calls = name } end
  if not self.methods[owner][token.text] then
    self:say(token, "%s: no such method%s", name, meant(token.text, self.methods[owner]))
  end
end

-- A literal that a merge method would refuse.
function Lint:literal(name, key, token)
  local param = self.params[name] and self.params[name][key]
  if not param then return end
  if token.kind == "number" and param.type ~= "choice" then
    local v = tonumber(token.text)
    if param.type == "boolean" then
      self:say(token, "%s: option '%s' is true or false", name, key)
    elseif v and ((param.min and v < param.min) or (param.max and v > param.max)) then
      local range = string.format(param.max and "from %g to %g" or "at least %g", param.min, param.max)
      self:say(token, "%s: option '%s' must be %s, got %s", name, key, range, token.text)
    end
  elseif token.kind == "string" and param.choices and token.text:find "^[\"']" then
    local word, words = token.text:sub(2, -2), {}
    for _, choice in ipairs(param.choices) do words[choice] = true end
    if not words[word] then
      self:say(token, "%s: option '%s' must be %s, got \"%s\"%s", name, key, table.concat(param.choices, ", "), word,
        meant(word, words))
    end
  elseif token.kind == "string" and not param.choices then
    self:say(token, "%s: option '%s' is a %s, not a text", name, key, param.type)
  end
end

-- A table { … }; `called`: the documented function that it is an argument of.
function Lint:constructor(called, place)
  local rows = called and options.of(options.doc(called))
  if rows and (not rows.all or place < rows.first) then rows = nil end
  local hints = called and callbacks[called]
  self:next()
  while not self:accept "}" and self:peek().kind ~= "end" do
    local token, after = self:peek(), self.tokens[self.i + 1]
    if token.kind == "name" and after.text == "=" then
      self.i = self.i + 2
      if rows and not rows.takes[token.text] then
        self:say(token, "%s: unknown option '%s'%s", called, token.text, meant(token.text, rows.by_name))
      end
      local first, start = self:peek(), self.i
      self:expression(0, hints and hints[token.text])
      if called and self.i == start + 1 then self:literal(called, token.text, first) end
    elseif self:accept "[" then
      self:expression(0)
      self:accept "]"
      self:accept "="
      self:expression(0)
    else
      self:expression(0)
    end
    if not self:accept "," then self:accept ";" end
  end
end

function Lint:arguments(called)
  if self:at "{" then
    self:constructor(called, 1)
  elseif self:peek().kind == "string" then
    self:next()
  else
    self:next()
    local place = 1
    local rows = called and options.of(options.doc(called))
    while not self:accept ")" and self:peek().kind ~= "end" do
      if place == 2 and rows and rows.only then
        self:say(self:peek(), "%s takes one table: options go into it", called)
      end
      if self:at "{" then self:argument_table(called, place) else self:expression(0) end
      place = place + (self:accept "," and 1 or 0)
    end
  end
end

-- "{ … }" in parentheses is the options table only when it is the whole argument, and where the table stands for
-- all arguments only when it is all of them.
function Lint:argument_table(called, place)
  local start, found = self.i, #self.found
  local rows = called and options.of(options.doc(called))
  self:constructor(called, place)
  if not (self:at ")" or (self:at "," and not (rows and rows.alone))) or (rows and rows.alone and place > 1) then
    self.i = start
    for k = #self.found, found + 1, -1 do self.found[k] = nil end
    self:expression(0)
  end
end

-- ---- expressions ----

local openers = { ["("] = true, ["{"] = true }

function Lint:suffixes(kind, var)
  while true do
    local t = self:peek()
    if self:accept "." then
      kind, var = self:field(kind, var, self:next()), nil
    elseif self:accept "[" then
      local key = self:peek()
      self:expression(0)
      self:accept "]"
      local named = is(kind, "model") and key.kind == "string"
      kind, var = (named or is(kind, "tensors")) and value "tensor" or nil, nil
    elseif self:accept ":" then
      local called = self:method(kind, self:next())
      self:arguments(called and called.calls)
      kind, var = returns(called), nil
    elseif t.kind == "string" or (t.kind == "op" and openers[t.text]) then
      local name = kind and (kind.calls or (kind.module and options.doc(kind.module) and kind.module))
      self:arguments(name)
      kind, var = returns(name and { calls = name }), nil
    else
      return kind
    end
  end
end

function Lint:primary()
  local t = self:next()
  if t.text == "(" then
    local kind = self:expression(0)
    self:accept ")"
    return self:suffixes(kind)
  end
  return self:suffixes(self:read(t))
end

function Lint:simple(hints)
  local t = self:peek()
  if self:at "{" then
    self:constructor()
  elseif self:accept "function" then
    self:body(hints)
  elseif t.kind == "name" or self:at "(" then
    return self:primary()
  else
    self:next() -- a literal, or "..."
    return t.text == "nil" and { none = true } or nil
  end
end

function Lint:expression(limit, hints)
  local kind
  local t = self:peek()
  if self:at "not" or self:at "-" or self:at "#" or self:at "~" then
    self:next()
    kind = self:expression(UNARY)
    kind = t.text == "-" and kind or nil
  else
    kind = self:simple(hints)
  end
  while true do
    local op = self:peek()
    local level = (op.kind == "op" or op.kind == "keyword") and binary[op.text]
    if not level or level[1] <= limit then return kind end
    self:next()
    local right = self:expression(level[2])
    self:compare(op, kind, right)
    kind = combine(op.text, kind, right)
  end
end

function Lint:expressions()
  local kinds = {}
  repeat kinds[#kinds + 1] = self:expression(0) or false until not self:accept ","
  return kinds
end

-- ---- statements ----

local ends = { ["end"] = true, ["else"] = true, ["elseif"] = true, ["until"] = true }

function Lint:block()
  self:open()
  while self:peek().kind ~= "end" and not (self:peek().kind == "keyword" and ends[self:peek().text]) do
    self:statement()
  end
  self:close()
end

-- "(a, b) … end", with `self` where the name had a colon.
function Lint:body(hints, method)
  self:open()
  if method then self.scope.names.self = {} end
  self:accept "("
  local n = 0
  while not self:accept ")" and self:peek().kind ~= "end" do
    local t = self:next()
    if t.kind == "name" then
      n = n + 1
      self:declare(t, hints and value(hints[n]))
    end
  end
  self:block()
  self:accept "end"
  self:close()
end

function Lint:local_names()
  local list = {}
  repeat
    list[#list + 1] = self:next()
    if self:accept "<" then
      self:next()
      self:accept ">"
    end
  until not self:accept ","
  return list
end

function Lint:declare_all(names, kinds)
  for i, t in ipairs(names) do
    local kind = kinds[i]
    self:declare(t, i <= #kinds and kind or nil)
  end
end

local statements = {}

statements["local"] = function(self)
  if self:accept "function" then
    self:declare(self:next())
    return self:body()
  end
  local names = self:local_names()
  self:declare_all(names, self:accept "=" and self:expressions() or {})
end

statements["function"] = function(self)
  local t, method = self:next(), false
  local plain = not (self:at "." or self:at ":")
  if plain then self:assign(t) else self:read(t) end
  while self:at "." or self:at ":" do
    method = self:next().text == ":"
    self:next()
  end
  self:body(nil, method)
end

statements["if"] = function(self)
  repeat
    self:expression(0)
    self:accept "then"
    self:block()
  until not self:accept "elseif"
  if self:accept "else" then self:block() end
  self:accept "end"
end

statements["while"] = function(self)
  self:expression(0)
  self:accept "do"
  self:block()
  self:accept "end"
end

statements["do"] = function(self)
  self:block()
  self:accept "end"
end

statements["for"] = function(self)
  local names = self:local_names()
  self:next() -- "=" or "in"
  self:expressions()
  self:accept "do"
  self:open()
  self:declare_all(names, {})
  self:block()
  self:close()
  self:accept "end"
end

statements["repeat"] = function(self) -- the condition sees the locals of the block
  self:open()
  while not self:accept "until" and self:peek().kind ~= "end" do self:statement() end
  self:expression(0)
  self:close()
end

statements["return"] = function(self)
  local t = self:peek()
  if t.kind ~= "end" and not (t.kind == "keyword" and ends[t.text]) and not self:at ";" then self:expressions() end
end

statements["goto"] = function(self) self:next() end
statements["break"] = function() end

-- A plain name on the left of "=".
function Lint:assign(token, kind)
  local var = self:find(token.text)
  if var then
    if not (var.kind and kind and var.kind.is == kind.is and kind.is) then var.kind = nil end
    return
  end
  self.assigned[token.text] = (self.assigned[token.text] or 0) + 1
  self.globals[token.text] = kind
  if self.modules[token.text] or self.builtin[token.text] then
    self:say(token, "'%s' is a %s of the language; a local of another name would leave it alone", token.text,
      self.modules[token.text] and "module" or "function")
  end
end

-- A call, or an assignment.
function Lint:call_or_assignment()
  local targets = {}
  repeat
    local t, after = self:peek(), self.tokens[self.i + 1]
    if t.kind == "name" and (after.text == "=" or after.text == ",") and after.kind == "op" then
      self:next()
      targets[#targets + 1] = t
    else
      self:primary()
      targets[#targets + 1] = false
    end
  until not self:accept ","
  if self:accept "=" then
    local kinds = self:expressions()
    for i, t in ipairs(targets) do
      if t then self:assign(t, kinds[i] or nil) end
    end
  end
end

function Lint:statement()
  if self:accept ";" then return end
  if self:accept "::" then
    self:next()
    self:accept "::"
    return
  end
  local t = self:peek()
  local how = t.kind == "keyword" and statements[t.text]
  if how then
    self:next()
    how(self)
  else
    self:call_or_assignment()
  end
end

-- ---- the whole ----

-- What the language offers: modules with their fields, and all globals.
local function language(self)
  local modules = { string = true, table = true, math = true, utf8 = true, coroutine = true, io = true, os = true }
  for _, doc in ipairs(tarn.docs()) do
    local module, mark, rest = doc.name:match "^(%a+)([.:]?)([%w_]*)$"
    if mark == "." then modules[module] = true end
    if mark == ":" and self.methods[module] then self.methods[module][rest] = true end
    if mark == "" and type(rawget(_ENV, doc.name)) == "function" then self.builtin[doc.name] = true end
  end
  self.known._ENV = true
  for name in pairs(_G) do self.known[name] = true end
  for name, v in pairs(_ENV) do -- the library's own, whatever a session made of them
    self.known[name] = true
    if modules[name] and type(v) == "table" then
      local fields = {}
      for key in pairs(v) do fields[key] = true end
      self.modules[name] = fields
    end
  end
  for _, row in ipairs(merge.methods()) do
    local params = {}
    for _, p in ipairs(row.params) do params[p.name] = p end
    self.params["merge." .. row.name] = params
  end
end

-- lint(text [, known]): a list of {line, column, at, length, message}, in the order of the text; at and
-- length are bytes. known: further globals. The text must compile.
return function(text, known)
  local self = setmetatable({ text = text, tokens = tokens(text), i = 1, found = {}, modules = {}, known = {},
    methods = { tensor = {}, model = {} }, params = {}, builtin = {}, assigned = {}, once = {},
    globals = {}, unknown = {} }, Lint)
  language(self)
  for name in pairs(known or {}) do self.known[name] = true end
  self:block()
  -- Again, now that it is known which globals are assigned once: these have the type of what they got.
  self.once, self.assigned, self.i, self.found, self.unknown = self.assigned, {}, 1, {}, {}
  self:block()
  self.known._, self.known.__ = nil, nil -- of the prompt: near to every short name
  for _, token in ipairs(self.unknown) do
    if not self.assigned[token.text] then
      self:say(token, "undefined global '%s'%s", token.text, meant(token.text, self.known))
    end
  end
  table.sort(self.found, function(a, b) return a.at < b.at end)
  return self.found
end
