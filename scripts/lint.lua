-- SPDX-License-Identifier: Apache-2.0
-- lint FILE…: what is wrong with scripts, as far as it can be seen without running them
--
-- Undefined globals, names that hide a module of the language and are then used as one, == on tensors (a:eq(b)
-- and tensor.equal(a, b) compare), options and methods that a documented function or type does not have,
-- values that a merge method would refuse. A line for each: FILE:LINE:COLUMN: what. What it is not sure of it
-- does not say. Exit code 0: nothing found, 1: something was found, 2: could not tell.
--
-- Options:
--   --json            one object a finding
tarn.exit_on_error(2)
local json, show, lint = require "json", require "show", require "lint"
local args = require("command").parse()

local function read(path)
  local file, why = io.open(path, "rb")
  if not file then error("cannot open " .. why, 0) end
  local text = file:read "a"
  file:close()
  if not text then error("cannot read " .. path, 0) end
  return text
end

-- What is no Lua has one finding: where the parser gave up.
local function findings(path, text)
  local ok, why = load(text:gsub("^#[^\n]*", "", 1), "=(load)")
  if ok then return lint(text) end
  local line, message = why:match "^%(load%):(%d+): (.*)$"
  return { { line = math.tointeger(line) or 1, column = 1, message = message or why } }
end

local found = 0
for _, path in ipairs(args) do
  for _, f in ipairs(findings(path, read(path))) do
    found = found + 1
    if args.json then
      print(json.encode(json.object { { "file", path }, { "line", f.line }, { "column", f.column },
        { "message", f.message } }))
    else
      print(string.format("%s:%d:%d: %s", show(path), f.line, f.column, show(f.message)))
    end
  end
end
if found > 0 then os.exit(1) end
