-- SPDX-License-Identifier: Apache-2.0
-- What docs/language.md and README.md show is what happens. The ```lua blocks of a page run in order, with
-- the globals of those before them; a block prints exactly what its lines "-- > text" say, and where it has
-- a line "-- ! text" it ends in an error that holds the text. In ```console blocks each line "$ command" is
-- given to sh, with tarn in front of the path, and prints what follows; a line "…" stands for any lines, and
-- "…" within a line for any text. The examples of the module tarn, which tests/stdlib/bind/test_docs.c does
-- not see, run here too.
local complaints, blocks = 0, 0

local function complain(where, what, got, want)
  complaints = complaints + 1
  io.stderr:write(where, ": ", what, "\n", got, "\ninstead of\n", want, "\n\n")
end

-- {kind =, line =, text =} for each fenced block of the page.
local function fenced(path)
  local list, block, n = {}, nil, 0
  for line in io.lines(path) do
    n = n + 1
    local kind = line:match "^```(%w*)$"
    if kind and not block then
      block = { kind = kind, line = n, lines = {} }
    elseif kind then
      block.text = table.concat(block.lines, "\n")
      list[#list + 1], block = block, nil
    elseif block then
      table.insert(block.lines, line)
    end
  end
  assert(not block, path .. ": a block does not end")
  return list
end

local function said(text, mark)
  local out = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do
    out[#out + 1] = line:match("^%-%- " .. mark .. " ?(.*)$")
  end
  return table.concat(out, "\n")
end

local function trimmed(text)
  return (text:gsub("[ ]+%f[\n\0]", ""):gsub("\n$", ""))
end

-- Runs a block where print writes into a text; returns that text and the error.
local function run(text, env)
  local out = {}
  function env.print(...)
    local words = table.pack(...)
    for i = 1, words.n do words[i] = tostring(words[i]) end
    out[#out + 1] = table.concat(words, "\t")
  end
  local f, message = load(text, "=script.lua", "t", env)
  if not f then return "", message end
  local ok, err = pcall(f)
  return trimmed(table.concat(out, "\n")), not ok and tostring(err) or nil
end

local function check_lua(text, where, env)
  blocks = blocks + 1
  local printed, err = run(text, env)
  local want, failure = trimmed(said(text, ">")), said(text, "!"):gsub("\n", " ")
  if printed ~= want then complain(where, "the block prints", printed, want) end
  if failure == "" and err then
    complain(where, "the block fails", err, "going through")
  elseif failure ~= "" and not (err or ""):gsub("%s+", " "):find(failure:gsub("%s+", " "), 1, true) then
    complain(where, "the block's error is", err or "none", failure)
  end
end

-- Does the text fit the lines, "…" standing for anything?
local function fits(text, lines)
  local pattern = ("\n" .. lines .. "\n"):gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0")
  pattern = pattern:gsub("\n *…\n", "\n.-"):gsub("…", "[^\n]*")
  return ("\n" .. text .. "\n"):find("^" .. pattern .. "$") ~= nil
end

local function check_console(block, where, shell)
  local command, want
  local function finish()
    if not command then return end
    local got, lines = trimmed(shell(command)), table.concat(want, "\n")
    if not fits(got, lines) then complain(where, "$ " .. command, got, lines) end
  end
  for _, line in ipairs(block.lines) do
    if line:match "^%$ " then
      finish()
      command, want = line:sub(3), {}
    else
      table.insert(want, line)
    end
  end
  finish()
end

local folder = os.tmpname()
os.remove(folder)
assert(os.execute("mkdir '" .. folder .. "'"))
-- Commands run in a folder of their own that sees examples/ and the program under the name tarn.
assert(os.execute(("ln -s \"$PWD/examples\" '%s/examples' && ln -s \"$(readlink /proc/$PPID/exe)\" '%s/tarn'")
  :format(folder, folder)))
local function shell(command)
  local pipe = io.popen(("cd '%s' && PATH=.:$PATH && { %s\n} 2>&1"):format(folder, command))
  local text = pipe:read "a"
  pipe:close()
  return text
end

for _, page in ipairs { "docs/language.md", "README.md" } do
  local env = setmetatable({ out = function(name) return folder .. "/" .. name end }, { __index = _G })
  for _, block in ipairs(fenced(page)) do
    local where = page .. ":" .. block.line
    if block.kind == "lua" then
      check_lua(block.text, where, env)
    elseif block.kind == "console" then
      blocks = blocks + 1
      check_console(block, where, shell)
    end
  end
end

for _, d in ipairs(tarn.docs()) do
  if d.example and d.name:match "^tarn" then
    check_lua(d.example, d.name, setmetatable({}, { __index = _G }))
  end
end

os.execute("rm -rf '" .. folder .. "'")
assert(blocks > 25, "hardly anything was found to check")
if complaints > 0 then error(complaints .. " places of the documentation are wrong", 0) end
print(blocks .. " blocks")
