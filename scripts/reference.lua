-- SPDX-License-Identifier: Apache-2.0
-- reference: the reference of the language and of the commands, as Markdown and in other forms
--
-- Everything in it comes from the documentation beside the functions, from the program's table of
-- options and from the heads of the command files; docs/reference.md is its output, kept equal by a test.
--
-- Options:
--   --as FORM         markdown (default); man: the page tarn(1); bash, zsh: completion for these shells;
--                     luals: definitions for the Lua language server
local args = require("command").parse()

local forms = { man = true, bash = true, zsh = true, luals = true }
if forms[args.as] then
  local commands, flags = require "doc.commands"()
  if args.as == "man" then
    io.write(require "doc.man"(commands, flags, tarn.version))
  elseif args.as == "luals" then
    io.write(require "doc.luals"(tarn.docs(), tarn.version))
  else
    io.write(require("doc." .. args.as)(commands, flags, tarn.docs()))
  end
  os.exit(0)
elseif (args.as or "markdown") ~= "markdown" then
  require("command").misused("--as %s: markdown, man, bash, zsh or luals", args.as)
end

-- Names before the first "." or ":" (or whole names) -> the chapter they belong to. A module that is
-- missing here gets a chapter under its own name.
local chapters = {
  { title = "Tensors", "tensor" }, { title = "Models", "model" }, { title = "Merge methods", "merge" },
  { title = "Schedules", "by" },
  { title = "Derivatives", "grad", "value_and_grad", "vjp", "jvp", "hvp", "compile", "checkpoint" },
  { title = "Networks", "nn", "net", "loss", "linearisation" },
  { title = "Data", "data", "dataset", "tfidf", "forest" },
  { title = "Training", "train", "average", "swag", "members" },
  { title = "Evaluation", "eval", "cache" }, { title = "Search", "search", "cmaes" },
  { title = "Alignment", "align", "alignment", "alignments", "zip", "pleas" },
  { title = "Probes", "probe", "record", "path", "curve", "saddles", "simplex" },
  { title = "Reading YAML", "yaml" }, { title = "Plots", "plot", "figure" },
  { title = "The run and help", "tarn", "help" },
}

local function fill(docs)
  local of = {}
  for _, chapter in ipairs(chapters) do
    for _, word in ipairs(chapter) do of[word] = chapter end
    chapter.rows = {}
  end
  for _, d in ipairs(docs) do
    local word = d.name:match "^[^.:]+"
    if not of[word] then
      of[word] = { title = "Module " .. word, rows = {} }
      table.insert(chapters, of[word])
    end
    local rows = of[word].rows
    table.insert(rows, d.name == of[word][1] and 1 or #rows + 1, d) -- the module's own row leads
  end
end

-- The anchors of headings are made as GitHub makes them: punctuation goes, and the second of two equal
-- ones (model.load and model:load) gets "-1". They are given out in the order of the headings.
local anchors, times = {}, {}
local function claim(title)
  local a = title:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-")
  local n = times[a]
  times[a] = (n or 0) + 1
  anchors[title] = n and a .. "-" .. n or a
end

local function heading(level, title)
  print(string.format("\n%s %s", ("#"):rep(level), (title:gsub("_$", "\\_"))))
end

local function link(title)
  return string.format("[%s](#%s)", title:gsub("_$", "\\_"), anchors[title])
end

-- Prose that Markdown would read as markup. What stands in backquotes stays as it is.
local function plain(text)
  local parts, code = {}, false
  for part, quote in (text .. "`"):gmatch "([^`]*)(`)" do
    if not code then
      part = part:gsub("[*<|\\]", "\\%0"):gsub("%f[%w_]_", "\\_"):gsub("_%f[^%w_]", "\\_")
    end
    parts[#parts + 1] = part .. quote
    code = not code
  end
  return (table.concat(parts):sub(1, -2))
end

-- One paragraph a line; lines set in by two are a list.
local function print_text(text)
  local item
  for line in text:gmatch "[^\n]+" do
    local name, rest = line:match "^  ([%w_, ]+): (.*)$"
    if not (name and item) then print() end
    print(name and "- `" .. name:gsub(", ", "`, `") .. "`: " .. plain(rest) or plain(line))
    item = name
  end
end

local function print_fenced(kind, text)
  print("\n```" .. kind .. "\n" .. text .. "\n```")
end

local function print_row(d)
  heading(3, d.name)
  print("\n`" .. d.signature .. "`")
  print_text(d.text)
  if d.example then print_fenced("lua", d.example) end
end

local function print_command(c)
  heading(3, "tarn " .. c.name)
  local help = { "usage: tarn " .. c.usage, "", c.summary }
  for line in (c.help or ""):gmatch "[^\n]+" do
    help[#help + 1] = line:match "^%-%- ?(.*)$"
  end
  print_fenced("", (table.concat(help, "\n")))
end

-- A chapter in the table of contents; a few names on each line, so that differences can be read.
local function print_chapter(title, rows, prefix)
  print(string.format("- %s%s", link(title), #rows > 0 and ":" or ""))
  for i = 1, #rows, 4 do
    local links = {}
    for k = i, math.min(i + 3, #rows) do links[#links + 1] = link(prefix .. rows[k].name) end
    print("  " .. table.concat(links, ", ") .. (i + 3 < #rows and "," or ""))
  end
end

local function print_contents(commands)
  for _, chapter in ipairs(chapters) do print_chapter(chapter.title, chapter.rows, "") end
  print_chapter("Commands", commands, "tarn ")
  print_chapter("Options of the program", {}, "")
end

local commands = tarn.commands()
fill(tarn.docs())
for _, chapter in ipairs(chapters) do
  claim(chapter.title)
  for _, d in ipairs(chapter.rows) do claim(d.name) end
end
claim "Commands"
for _, c in ipairs(commands) do claim("tarn " .. c.name) end
claim "Options of the program"

print("# Reference of tarn " .. tarn.version)
print [[

Printed by `tarn reference` from the documentation beside each function; `help "name"` and `?name` at the
prompt, and `tarn help NAME`, show the same texts. `docs/language.md` is the guide to the language.

A name with a dot is called as written (`tensor.zeros(3)`); one with a colon is a method (`t:sum()`) and may
also be called as a function (`tensor.sum(t)`). Indices count from 1, negative ones from the end, ranges
include both ends. `{dtype = "f32"}` in a signature is a table of options with their defaults, and may be left
out; an unknown option is an error. In examples, lines `-- > text` state what is printed; base, a, b and c
stand for opened models. Each example runs in a test.
]]
print_contents(commands)
for _, chapter in ipairs(chapters) do
  heading(2, chapter.title)
  for _, d in ipairs(chapter.rows) do print_row(d) end
end

heading(2, "Commands")
print "\nArguments and options as `tarn help COMMAND` prints them."
for _, c in ipairs(commands) do print_command(c) end

heading(2, "Options of the program")
print "\nBefore a script's name, or anywhere among the arguments of a command.\n"
for _, f in ipairs(tarn.flags()) do
  print(string.format("- `%s%s`: %s", f.name, f.value and " " .. f.value or "", plain(f.text)))
end
