-- SPDX-License-Identifier: Apache-2.0
-- What docs/language.md, README.md, the tutorial and the like show is what happens. The ```lua blocks of a page
-- run in order, with the globals of those before them; a block prints exactly what its lines "-- > text" say, and
-- where it has a line "-- ! text" it ends in an error that holds the text. In ```console blocks each line
-- "$ command" is given to sh, with tarn in front of the path, and prints what follows; a line "…" stands for any
-- lines, and "…" within a line for any text. A block ```lua NAME.lua (or any kind with a name) is written to that
-- file, for the commands below it. In ```prompt blocks lines "> text" and "... text" are given to the prompt, one
-- session a page. The examples of the module tarn, which tests/stdlib/bind/test_docs.c does not see, run too.
local complaints, blocks = 0, 0

local function complain(where, what, got, want)
  complaints = complaints + 1
  io.stderr:write(where, ": ", what, "\n", got, "\ninstead of\n", want, "\n\n")
end

-- {kind =, name =, line =, text =} for each fenced block of the page.
local function fenced(path)
  local list, block, n = {}, nil, 0
  for line in io.lines(path) do
    n = n + 1
    local kind, name = line:match "^```(%w*) ?([%w._-]*)$"
    if kind and not block then
      block = { kind = kind, name = name ~= "" and name, line = n, lines = {} }
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

-- Commands of some pages run in a folder of their own that sees examples/ and the program under the name tarn.
local function new_folder()
  local folder = os.tmpname()
  os.remove(folder)
  assert(os.execute(("mkdir '%s' && ln -s \"$PWD/examples\" \"$PWD/tests\" '%s' && ln -s \"$(readlink /proc/$PPID/exe)\" '%s/tarn'")
    :format(folder, folder, folder)))
  return folder
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

-- What is typed goes in by a pipe, so only what is answered comes out: here behind that of the blocks before.
local function check_prompt(block, where, session, shell)
  local want = {}
  table.insert(session, "print '\1'")
  for _, line in ipairs(block.lines) do
    local typed = line:match "^> ?(.*)$" or line:match "^%.%.%. ?(.*)$"
    table.insert(typed and session or want, typed or line)
  end
  write(session.path, table.concat(session, "\n") .. "\n")
  local got, lines = trimmed(shell("tarn -i <.typed")):match "^.*\1\n?(.*)$", table.concat(want, "\n")
  if not fits(got, lines) then complain(where, "the prompt answers", got, lines) end
end

local function check_page(page, folder)
  local env = setmetatable({ out = function(name) return folder .. "/" .. name end }, { __index = _G })
  local function shell(command)
    local pipe = io.popen(("cd '%s' && PATH=.:$PATH && { %s\n} 2>&1"):format(folder, command))
    local text = pipe:read "a"
    pipe:close()
    return text
  end
  local session = { path = folder .. "/.typed" }
  for _, block in ipairs(fenced(page)) do
    local where = page .. ":" .. block.line
    if block.name then
      write(folder .. "/" .. block.name, block.text .. "\n")
    elseif block.kind == "lua" then
      check_lua(block.text, where, env)
    elseif block.kind == "console" then
      blocks = blocks + 1
      check_console(block, where, shell)
    elseif block.kind == "prompt" then
      blocks = blocks + 1
      check_prompt(block, where, session, shell)
    elseif page:find "^docs/guide/" then
      complain(where, "a block of the tutorial is not run", block.kind, "lua, console or prompt")
    end
  end
end

-- The pages of a row share a folder: a later one finds what an earlier one saved.
local rows = { { "docs/language.md", "README.md" }, { "docs/coming-from-mergekit.md" }, { "docs/prompt.md" }, {
  "docs/guide/1-first-look.md", "docs/guide/2-first-merge.md", "docs/guide/3-selectors-and-schedules.md",
  "docs/guide/4-your-own-method.md", "docs/guide/5-recipes.md", "docs/guide/6-reading-a-merge.md" }, { "docs/guide/networks.md" }, { "docs/guide/data.md" }, { "docs/guide/training.md" },
  { "docs/guide/probes.md" },
  { "docs/guide/averages.md" }, { "docs/alignment.md" }, { "docs/landscape.md" } }
for _, pages in ipairs(rows) do
  local folder = new_folder()
  for _, page in ipairs(pages) do check_page(page, folder) end
  os.execute("rm -rf '" .. folder .. "'")
end

for _, d in ipairs(tarn.docs()) do
  if d.example and d.name:match "^tarn" then
    check_lua(d.example, d.name, setmetatable({}, { __index = _G }))
  end
end

assert(blocks > 60, "hardly anything was found to check")
if complaints > 0 then error(complaints .. " places of the documentation are wrong", 0) end
print(blocks .. " blocks")
