-- SPDX-License-Identifier: Apache-2.0
-- doc SCRIPT [ARGUMENT…]: run a script and write a page of its prose, code and results
--
-- Comments at the left edge of the script are Markdown: headings, lists, tables, code, links, emphasis.
-- Below each piece of code stands what it printed: values as text, Lua tables as tables, figures of plot
-- as drawings; values that the script returns come last. The page is one HTML file that needs nothing
-- else, no network and no JavaScript. If the script fails the page ends in the error, and so does the
-- command (exit code 1). If it calls os.exit the page ends there, with the script's exit code.
--
-- Options:
--   -o, --out FILE    where to write (default: the script's name with .html); a page that this command
--                     wrote is replaced, other files are not
local args = require("command").parse()
local cells_of, page, values = require "doc.cells", require "doc.page", require "doc.values"
local text_of = require "text_file"

local MARK = "tarn_doc_cell"
local script = args[1]
local out = args.out or script:gsub("%.lua$", "") .. ".html"

-- Before the script runs: a file that is none of our pages stays.
local there = io.open(out, "rb")
if there then
  local ours = (there:read(1024) or ""):find(page.generator, 1, true)
  there:close()
  if not ours then error(("%s is there, and is no page of tarn doc: -o names another"):format(out), 0) end
end

local text = text_of(script)
local cells, program = cells_of(text, MARK)
for _, cell in ipairs(cells) do
  if cell.code then cell.out = values.sink() end
end
-- Before the first cell of code nothing prints; a script without code has a sink that stays empty.
local at = 1
local function sink()
  while at < #cells and not cells[at].out do at = at + 1 end
  return cells[at] and cells[at].out or cells.rest
end
cells.rest = values.sink()

-- What print, io.write and figures reach while the script runs, in its own files and in modules.
local function write(file, ...)
  for _, v in ipairs { ... } do sink().write(tostring(v)) end
  return file
end
local function nothing(file) return file end
local stdout = setmetatable({ write = write, flush = nothing, setvbuf = nothing }, { __index = io.stdout })
local globals = {
  [MARK] = function(n) at = n end,
  print = function(...) sink().values(table.pack(...)) end,
  io = setmetatable({ stdout = stdout, write = function(...) return write(stdout, ...) end }, { __index = io }),
}

-- failure: what stopped the script, or nil.
local function write_page(failure)
  if failure then sink().failure(failure) end
  local html = page.html { cells = cells, name = script:match "[^/]*$", version = tarn.version,
    failed = failure ~= nil }
  local file, why = io.open(out, "wb")
  if not file then error("cannot open " .. why, 0) end
  local ok
  ok, why = file:write(html)
  local closed, late = file:close()
  if not (ok and closed) then error(("cannot write %s: %s"):format(out, why or late), 0) end
end

-- The page is written before the script ends the program: nothing of this file runs after that.
local exit, print, quiet = os.exit, print, args.quiet
globals.os = setmetatable({ exit = function(code, close)
  if code ~= nil and type(code) ~= "boolean" and not math.tointeger(code) then
    error(("bad argument #1 to 'exit' (a whole number or a boolean expected, got %s)"):format(tostring(code)), 2)
  end
  local number = code == nil and 0 or type(code) == "boolean" and (code and 0 or 1) or code
  write_page(number ~= 0 and ("the script called os.exit(%s)"):format(tostring(code)) or nil)
  if number == 0 and not quiet then print(out) end
  exit(code, close)
end }, { __index = os })

local function with_globals(f)
  local before, show = {}, values.Figure.print
  for name, v in pairs(globals) do before[name], _G[name] = rawget(_G, name) or false, v end
  values.Figure.print = function(fig) sink().figure(fig) end
  local result = table.pack(pcall(f))
  for name in pairs(globals) do _G[name] = before[name] or nil end
  values.Figure.print = show
  return result
end

arg = table.move(args, 2, #args, 1, { [0] = script })
local run, message = load(program, "@" .. script, "t")
local result = { false, message }
if run then
  result = with_globals(function() return run(table.unpack(arg)) end)
end
if result[1] then
  result.n = result.n - 1
  table.remove(result, 1)
  at = #cells
  if result.n > 0 then (cells[at].out or cells.rest).values(result) end
  message = nil
else
  message = tostring(result[2])
end
write_page(message)
if message then error(message, 0) end
if not quiet then print(out) end
