-- SPDX-License-Identifier: Apache-2.0
-- tarn lint: each kind of finding with its place, what must not be found, and silence about every file that the
-- project ships.
local lint = require "lint"
local options = require "options"

local function check(text, expected)
  local got = {}
  assert(load((text:gsub("^#[^\n]*", "", 1))))
  for i, f in ipairs(lint(text)) do got[i] = string.format("%d:%d: %s", f.line, f.column, f.message) end
  local shown = table.concat(got, "\n")
  if expected == "" then
    assert(shown == "", text .. "\nfound: " .. shown)
  else
    assert(#got == 1 and shown:find(expected, 1, true), text .. "\nexpected: " .. expected .. "\nfound: " .. shown)
  end
end

-- Undefined globals; scopes.
check("pint(1)", "1:1: undefined global 'pint'; did you mean 'print'?")
check("local a = 1\ndo local b = a end\nprint(b)", "3:7: undefined global 'b'")
check("local x = x", "1:11: undefined global 'x'")
check("local function f() return f end", "")
check("local f = function() return f end", "1:29: undefined global 'f'")
check("for i = 1, 2 do print(i) end print(i)", "1:36: undefined global 'i'")
check("repeat local z = 1 until z", "")
check("function later() return made end made = 1", "")
check("function t_of() end t_of()", "")
check("local o = {} function o.a.b:c(x) return self, x end", "")
check("goto done ::done:: local s <const>, t <close> = 1, nil print(s, t)", "")
check("print(('日本') .. nosuch)", "1:17: undefined global 'nosuch'") -- columns are characters
check("#!/usr/bin/env tarn\nnosuch = nosuch", "")
check("-- nosuch()\n--[[ nosuch()\n]] print [==[ ]] nosuch ]==] print 'a\\'nosuch' print(0x1p-3, 1e+5, .5, 3 .. 4)", "")
check("return 1 // 2 ~ 3 >> 1 & ~4 | 5 << 2 ^ -3 .. 'x' == 'y' and not nil or {}", "")
check("return function(...) return select('#', ...), (...) end", "")

-- A second argument where one table is all that a function takes.
check("local a = model.open 'a' return merge.linear({ a, a }, { weight = 1 })", "merge.linear takes one table: options go into it")
check("return nn.mlp({ 2, 3 }, { act = 'tanh' })", "nn.mlp takes one table")
check("local a = model.open 'a' return merge.linear({ a, a, weight = 1 }), nn.linear(2, 3, { bias = false })", "")

-- Modules.
check("return tensor.zeroes(3)", "1:15: tensor.zeroes: no such function; did you mean 'zeros'?")
check("return string.fromat('')", "string.fromat: no such function; did you mean 'format'?")
check("model = 3", "1:1: 'model' is a module of the language")
check("grad = 3", "'grad' is a function of the language")
check("local merge = { 1 } return merge.ties", "1:34: the local 'merge' hides the module")
check("local merge = {} return merge.mine, merge[1]", "")
check("local function f(model) return model:names(), model.label end", "")
check("local by = require 'nosuch' return by.depth2", "")

-- Options.
check("return merge.ties { densty = 1 }", "1:21: merge.ties: unknown option 'densty'; did you mean 'density'?")
check("return merge.ties({ densty = 1 })", "merge.ties: unknown option 'densty'")
check("return merge.ties { base = 1, missing = 'base', on_integer = 'base', weight = 1 }", "")
check("return merge.ties { weight = { densty = 1 } }", "")
check("return model.open('x', { strct = true })", "1:26: model.open: unknown option 'strct'; did you mean 'strict'?")
check("local f = model.open return f('x', { strct = true })", "model.open: unknown option 'strct'")
check("return model.new({ w = tensor.zeros(2) }, { mass = 0 })", "")
check("return model.new({ w = tensor.zeros(2) }, { mas = 0 })", "model.new: unknown option 'mas'; did you mean 'mass'?")
check("return jvp(math.sin, { a = 1 }, { a = 2 }), jvp({ a = 1 }, 2), grad(math.sin, { only = 3 })", "")
check("return jvp { math.sin, { a = 1 }, { a = 2 }, only = { 'a' } }, grad({ math.sin, { a = 1 }, only = 'a' })", "")
check("return jvp { math.sin, 1, 2, onyl = 'a' }", "jvp: unknown option 'onyl'; did you mean 'only'?")
check("return hvp({ math.sin, 1, 2, onyl = 'a' })", "hvp: unknown option 'onyl'; did you mean 'only'?")
check("local t = tensor.zeros(3) return t:sum { dim = 1, keepdim = true }", "")
check("local t = tensor.zeros(3) return t:sum(1, { keepdims = true })", "tensor:sum: unknown option 'keepdims'")
check("local m = model.open 'x' m:save('y', { overwrit = true })", "model:save: unknown option 'overwrit'")
check("local m = model.open 'x' return m:with_config { anything = 1 }", "")
check("local m = model.open 'x' m = other(m) m:save('y', { overwrit = true }) function other() end", "")
check("return merge.ties { density = 1.5 }", "1:31: merge.ties: option 'density' must be from 0 to 1, got 1.5")
check("return merge.ties { density = 0.5 * 3 }", "")
check("return merge.ties { trim = 'globl' }", "got \"globl\"; did you mean 'global'?")
check("return merge.ties { normalize = 1 }", "merge.ties: option 'normalize' is true or false")
check("return merge.ties { density = '0.2' }", "merge.ties: option 'density' is a number, not a text")

-- Methods and comparisons.
check("local m = model.open 'x' m:saev 'y'", "model:saev: no such method; did you mean 'save'?")
check("return (model.open 'x' - model.open 'y'):nrom()", "model:nrom: no such method; did you mean 'norm'?")
check("m = model.open 'x' m:saev 'y'", "1:22: model:saev: no such method")
check("m = model.open 'x' m = other m:saev 'y' other = 1", "")
check("function f() return t == 0 end t = tensor.zeros(3)", "1:23: '==' does not compare tensors")
check("local t = tensor.zeros(3) if t == 0 then return end", "1:32: '==' does not compare tensors")
check("local t = tensor.zeros(3) return 2 * t ~= 1", "'~=' does not compare tensors")
check("local t = tensor.zeros(3) return t == nil, nil ~= t, t:eq(0), rawequal(t, t)", "")
check("local t = tensor.zeros(3) t = 3 return t == 3", "")
check("local m = model.open 'x' return m['w'] == 0", "does not compare tensors")
check("return merge.map { apply = function(t) if t[1] == 0 then return 1 end end }", "1:48: '==' does not compare")
check("return merge.map { apply = function(t, s, name) if name == 'x' or s.n == 1 then return t[1] end end }", "")

-- Everything that is shipped is silent.
local files, n = io.popen "find examples scripts stdlib -name '*.lua'", 0
for path in files:lines() do
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  for _, f in ipairs(lint(text)) do error(string.format("%s:%d:%d: %s", path, f.line, f.column, f.message), 0) end
  n = n + 1
end
files:close()
assert(n >= 60, n)

-- Signatures: every row can be read, and those of merge methods say what the rows of methods say.
for _, doc in ipairs(tarn.docs()) do options.of(doc) end
for _, row in ipairs(merge.methods()) do
  local known = options.of(options.doc("merge." .. row.name))
  assert(known and known.by_name.missing, row.name)
  for _, p in ipairs(row.params) do
    assert(known.by_name[p.name] and known.by_name[p.name].text ~= "", row.name .. "." .. p.name)
  end
  assert(known.all, row.name)
end
print "ok"
