-- SPDX-License-Identifier: Apache-2.0
-- A journal: a file of JSON lines, one for what is finished, each written in one go. A last line that a
-- killed run left unfinished is dropped when the file is read again.
local json = require "json"
local decode = require "json.decode".decode
local journal = {}

-- Plain values as json.encode wants them: objects with their keys in byte order.
local function ordered(v)
  if type(v) ~= "table" then return v end
  if #v > 0 then
    local list = {}
    for i, item in ipairs(v) do list[i] = ordered(item) end
    return list
  end
  local keys, object = {}, {}
  for key in pairs(v) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do object[i] = { key, ordered(v[key]) } end
  return json.object(object)
end

-- The same value, the same text.
function journal.text(v)
  return json.encode(ordered(v))
end

-- json.null stands for what is not a finite number.
local function restored(v)
  if type(v) ~= "table" then return v end
  if v == require "json.decode".null then return 0 / 0 end
  for key, item in pairs(v) do v[key] = restored(item) end
  return v
end

-- The rows of the file; none where there is no file yet.
function journal.read(path)
  local rows, whole = {}, {}
  local file, why, code = io.open(path, "rb")
  if code == 2 then return rows end -- ENOENT
  if not file then error("the journal cannot be read: " .. why, 0) end
  local text
  text, why = file:read "a"
  file:close()
  if not text then error(("the journal %s cannot be read: %s"):format(path, why), 0) end
  local n, torn = 0, false
  for line, ended in text:gmatch "([^\n]+)(\n?)" do
    n, torn = n + 1, ended == ""
    local ok, row = pcall(decode, line)
    if ok and type(row) == "table" then
      rows[#rows + 1], whole[#whole + 1] = restored(row), line .. "\n"
    elseif not torn or n == 1 and line:sub(1, 1) ~= "{" then -- the latter: some other file, which stays as it is
      error(("%s, line %d: not a line of a journal (%s)"):format(path, n, tostring(row)), 0)
    end
  end
  if torn then -- the end of a run that was killed: what comes next must not follow it
    file = assert(io.open(path, "wb"))
    assert(file:write(table.concat(whole)))
    file:close()
  end
  return rows
end

function journal.append(path, row)
  local line = journal.text(row) .. "\n" -- made before there is a file
  local file, why = io.open(path, "ab")
  if not file then error("the journal cannot be written: " .. why, 0) end
  file:setvbuf "no" -- one write, whatever the length
  assert(file:write(line))
  assert(file:close())
end

-- Files of tensors that lie beside a journal: row.file of a row, or "state" (probe.journal).
function journal.beside(path, name) return ("%s.%s.safetensors"):format(path, name) end

-- What a stop says of it.
function journal.note(what, path) return ("kept %s in %s; the same command goes on"):format(what, path) end

function journal.remove(path)
  local ok, rows = pcall(journal.read, path)
  for _, row in ipairs(ok and rows or {}) do
    if row.file then os.remove(journal.beside(path, row.file)) end
  end
  os.remove(journal.beside(path, "state"))
  os.remove(path)
end

return journal
