-- SPDX-License-Identifier: Apache-2.0
-- Recipes without trust: the same plan as with it, nothing in reach of the script but headers, and a caller who
-- survives whatever comes back. (What the process of the script may do to the machine: vm/jail's test.)
local check = require "check"
local json = require "json"
local folder <close> = require "folder"()

local files = { a = "examples/data/low.safetensors", b = "examples/data/high.safetensors" }

local function write(name, text)
  local file = assert(io.open(folder(name), "wb"))
  file:write(text)
  file:close()
  return folder(name)
end

local half = [[return recipe { name = "half", version = "1.0", inputs = { a = {}, b = {} },
  params = { t = { 0.5, min = 0, max = 1 } }, build = function(m, p) return (1 - p.t) * m.a + p.t * m.b end }]]

local function ask(text, seconds, paths, question)
  return tarn.untrusted("r.lua", text, question or "build", "{}", paths or files, seconds)
end

-- f fails with this code, and the message holds the text.
local function fails(code, text, f, ...)
  local ok, err = pcall(f, ...)
  if ok then error("no error; expected [" .. code .. "] " .. text, 2) end
  local have = type(err) ~= "string" and err.code or tostring(err):match "%[(%a+)%]$" or ""
  if have ~= code or not tostring(err):find(text, 1, true) then
    error(string.format("expected [%s] %s\ngot [%s] %s", code, text, have, tostring(err)), 2)
  end
  return tostring(err)
end

local function building(code)
  return 'return recipe { name = "x", inputs = { a = {}, b = {} }, build = function(m, p) ' .. code .. " end }"
end

-- ---- the same as with trust ----

local path = write("half.lua", half)
local trusted = recipe.load(path, { input = files, set = { t = "0.3" } })
local strange = recipe.load(path, { input = files, set = { t = "0.3" }, untrusted = true })
check.equal(strange:plans()[1].plan, trusted:plans()[1].plan)
check.equal(strange.about.name, "half")
check.equal(strange.about.params[1].domain, trusted.about.params[1].domain)
recipe.run(path, { input = files, out = folder "one.safetensors" })
recipe.run(path, { input = files, out = folder "two.safetensors", untrusted = true })
check.equal(folder.text "one.safetensors" == folder.text "two.safetensors", true)
fails("", "t = 7 is not from 0 to 1", recipe.load, path, { input = files, set = { t = "7" }, untrusted = true })

-- Headers of every kind come over as they are: shards, no elements, no dimensions, integers, odd names, a config.
local odd = folder "odd"
model.new { { "z", tensor.zeros({ 0, 3 }) }, { "y", tensor.zeros({ 2, 0 }) }, { 'q"\\\n\u{e9}', tensor { 1, 2 } },
  { "model.layers.0.w", tensor.zeros({ 3, 5 }) }, { "model.layers.1.w", tensor.zeros({ 3, 5 }) } }:save(odd, { max_shard_size = 64 })
local config = assert(io.open(odd .. "/config.json", "w"))
config:write '{"model_type": "llama", "num_hidden_layers": 2}'
config:close()
local text = [[return recipe { name = "odd", inputs = { a = { architecture = "llama" } },
  build = function(m) return merge.linear { m.a, m.a, weight = { 1, by.depth { 0, 1, other = 1 } } } end }]]
local odd_path = write("odd.lua", text)
local plain, walled = recipe.load(odd_path, { input = { a = odd } }),
  recipe.load(odd_path, { input = { a = odd }, untrusted = true })
check.equal(walled:plans()[1].plan, plain:plans()[1].plan)

-- Patterns are compiled to machine code where that is allowed; in there they are matched without.
local picked = write("picked.lua", 'return recipe { name = "x", inputs = { a = {}, b = {} }, build = function(m) '
  .. [[return m.a:only "^fc[12]" end }]])
check.equal(recipe.load(picked, { input = files, untrusted = true }):plans()[1].plan,
  recipe.load(picked, { input = files }):plans()[1].plan)

-- ---- what the script finds ----

local function says(want, code)
  local ok, err = pcall(ask, building(code))
  if ok or not tostring(err):find(want, 1, true) then error("expected: " .. want .. "\ngot: " .. tostring(err), 2) end
end
says("io is not available to a recipe", 'return io.open "/etc/passwd"')
says("os is not available to a recipe", "return os.getenv 'HOME'")
says("debug is not available", "return debug.getinfo(1)")
says("model.open is not available to a recipe", 'return model.open "/etc/passwd"')
says("model:save is not available to a recipe", 'm.a:save "x"')
says("module 'helper' not found", 'return require "helper"')
says("compiled chunks are not accepted", 'return load("x", "x", "b")')
says("this run only plans", 'return (m.a["fc1.bias"] + 0):sum():item()')
fails("DataNotHere", "tensor 'fc1.bias' of a: only names, dtypes and shapes are known here", ask,
  building("return m.a end, score = function(out) return out['fc1.bias']:sum():item()"), nil, files, "try")
says("r.lua:1:", "error 'mine'")

-- ---- what ends it ----

fails("TimeLimit", "time limit", ask, "while true do end", 0.3)
fails("TimeLimit", "time limit", ask, building "while true do pcall(error) end", 0.3)
fails("OutOfMemory", "out of memory", ask, "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end", 20)
fails("OutputTooLarge", "it printed more than", ask, "for i = 1, 1e6 do print(('x'):rep(1000)) end", 20)
fails("OutputTooLarge", "its answer has more than", ask,
  building "return m.a:rename(function(n) return n .. ('x'):rep(4000000) end)", 30)

-- ---- what it says ----

local err = fails("", "\\x1b[2J", ask, building [[error "\27[2J\a\u{9b}31m"]])
check.equal(err:find "[\27\7]" or err:find "\194\155", nil)
local program = folder.tarn
local bell = write("bell.lua", 'print "\27]0;title\7" ' .. half)
local code, out = program(("run '%s' --a '%s' --b '%s' --dry-run --untrusted"):format(bell, files.a, files.b))
check.equal(code, 0)
check.equal(out:find "[\27\7]", nil)
check.equal(out:find("\\x1b]0;title\\x07", 1, true) ~= nil, true)

-- ---- an answer from somebody else ----

local function lies(answer, question)
  return function(_, _, asked)
    if asked == (question or "build") then return answer end
    return '{"name":"half","authors":[],"inputs":[{"name":"a"},{"name":"b"}],"params":[]}'
  end
end

local function plans(answer)
  return recipe.load(path, { input = files, untrusted = lies(answer) }):plans()
end

local function outputs(list) return '{"outputs":' .. list .. "}" end

for _, answer in ipairs {
  "", "{", "null", "[]", "{}", "\0", ("["):rep(100000), outputs "3", outputs "[]", outputs '[{"name":"","plan":{}}]',
  outputs '[{"name":"../up","plan":"{}"}]', outputs '[{"name":"/etc/x","plan":"{}"}]', outputs '[{"name":"a/b","plan":"{}"}]',
  outputs '[{"name":".","plan":"{}"}]', outputs '[{"name":"","plan":""},{"name":"","plan":""}]',
  outputs '[{"name":"","plan":""},{"name":"x","plan":""}]', outputs('[{"name":"' .. ("x"):rep(5000) .. '","plan":""}]'),
  outputs '[{"plan":"{}"}]', outputs '[{"name":"x"}]', outputs '[["x"]]', '{"outputs":[],"outputs":[]}',
} do
  fails("AnswerInvalid", "", plans, answer)
end

for _, about in ipairs {
  "{}", '{"name":3,"authors":[],"inputs":[],"params":[]}', '{"name":"x","authors":3,"inputs":[],"params":[]}',
  '{"name":"x","authors":[{}],"inputs":[],"params":[]}', '{"name":"x","authors":[],"inputs":[{"name":"../x"}],"params":[]}',
  '{"name":"x","authors":[],"inputs":[{"name":"out"}],"params":[]}',
  '{"name":"x","authors":[],"inputs":[{"name":"a"},{"name":"a"}],"params":[]}',
  '{"name":"x","authors":[],"inputs":[],"params":[{"name":"t","type":"file"}]}',
  '{"name":"x","authors":[],"inputs":[{"name":"a","optional":"yes"}],"params":[]}',
  '{"name":"x","authors":[],"inputs":[{"name":"a","adapter_of":"b"}],"params":[]}',
  '{"name":"x","authors":[],"inputs":[{"name":"a","adapter_of":"a"}],"params":[]}',
  '{"name":"x","authors":[],"inputs":[{"name":"a"},{"name":"b","adapter_of":["a"]}],"params":[]}',
} do
  fails("AnswerInvalid", "", recipe.load, path, { bare = true, untrusted = lies(about, "describe") })
end
local shown = recipe.load(path, { bare = true, untrusted = lies(
  '{"name":"\\u001b[31mred\\n","authors":["\\u009b"],"inputs":[],"params":[],"evil":1}', "describe") }).about
check.equal(shown.name, "\\x1b[31mred ")
check.equal(shown.authors[1], "?")
check.equal(shown.evil, nil)

-- A source that make would have refused does not lead out of the folder either.
for _, source in ipairs { "/etc/passwd", "../../../etc/passwd", "hub:../../x/y", "hub:a/b@../../../etc" } do
  local about = json.encode(json.object { { "name", "x" }, { "authors", json.list {} }, { "params", json.list {} },
    { "inputs", json.list { json.object { { "name", "a" }, { "source", source } } } } })
  check.raises("half.lua: ", recipe.load, path, { untrusted = lies(about, "describe") })
end

local function with_plan(plan)
  return plans(json.encode(json.object { { "outputs", json.list { json.object { { "name", "" }, { "plan", plan } } } } }))
end

local good = trusted:plans()[1].plan
check.equal(#with_plan(good), 1)
fails("MissingInput", "where is the input '/etc/passwd'", with_plan, (good:gsub('"label":"a"', '"label":"/etc/passwd"')))
fails("MissingInput", "where is the input 'c'", with_plan, (good:gsub('"label":"b"', '"label":"c"')))
fails("InputDiffers", "is not the input 'a'", with_plan, (good:gsub('"header":"%x', '"header":"g', 1)))
fails("PlanInvalid", "does not come before it", with_plan, (good:gsub('"in":%[0%]', '"in":[77]', 1)))
fails("PlanInvalid", "", with_plan, good:sub(1, -2))
fails("PlanInvalid", "", with_plan, ("["):rep(1000000))

-- Zeros without end.
local fill = recipe.load(write("fill.lua", [[return recipe { name = "fill", inputs = { a = {} },
  build = function(m) return m.a end }]]), { input = files.a and { a = files.a } })
check.equal(#fill:plans(), 1)

-- Plans with a byte changed, or one left out or put twice: refused or understood, nothing else.
local seed, understood = 1, 0
local function random(n)
  seed = (seed * 1103515245 + 12345) & 0x7fffffff
  return (seed >> 8) % n + 1
end
for _ = 1, 400 do
  local at, how = random(#good), random(3)
  local byte = how == 1 and string.char(random(94) + 32) or how == 2 and "" or good:sub(at, at):rep(2)
  local ok, why = pcall(with_plan, good:sub(1, at - 1) .. byte .. good:sub(at + 1))
  understood = understood + (ok and 1 or 0)
  if not ok and tostring(why):find "attempt to" then error(why) end
end
check.equal(understood > 0 and understood < 200, true)

-- ---- inputs that are no models ----

os.execute(("mkfifo '%s'; ln -s /dev/zero '%s'"):format(folder "fifo", folder "zero"))
for _, name in ipairs { folder "fifo", folder "zero", "/dev/null", "/proc/self/mem", "/proc/self/environ" } do
  check.equal(pcall(recipe.run, path, { input = { a = name, b = files.b }, untrusted = true, out = folder "none" }), false)
end

-- ---- what needs data ----

local scored = write("scored.lua", (half:gsub(" }$", ", score = function(out) return 1 end, check = error }")))
check.raises("needs the data of models", function()
  recipe.load(scored, { input = files, untrusted = true }):try()
end)
code, out, err = program(("run '%s' --a '%s' --b '%s' --untrusted -o '%s'"):format(scored, files.a, files.b,
  folder "unchecked.safetensors"))
check.equal(code, 0)
check.equal(out:find("saved, not checked", 1, true) ~= nil, true)
check.equal(err:find("what was saved is not checked", 1, true) ~= nil, true)
-- nothing is said of it where nothing is saved
check.equal(select(3, program(("run '%s' --a '%s' --b '%s' --untrusted --dry-run"):format(scored, files.a, files.b))), "")
code, out = program(("run '%s' --untrusted --help"):format(scored))
check.equal(code == 0 and out:find("is not run without trust", 1, true) ~= nil, true)

-- ---- locks ----

-- What an answer says beside what counts does not reach the lock: it is of the plan as it was understood.
local lock_of = recipe.lock(path, { input = files })
local locked = folder.text "half.lock"
check.equal(recipe.lock(path, { input = files, untrusted = true }), lock_of)
check.equal(folder.text "half.lock", locked)
check.equal(select(2, recipe.lock(path, { input = files, untrusted = true, check = true })), {})
check.equal(#select(2, recipe.lock(path, { input = files, set = { t = 0.25 }, untrusted = true, check = true })), 2)
