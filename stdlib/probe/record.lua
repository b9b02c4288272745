-- SPDX-License-Identifier: Apache-2.0
-- What probes return: a table of raw values that prints itself, is saved as JSON or CSV and makes its own picture.
-- A kind of record says how, once:
--
--   text   function(r) -> what print shows
--   rows   function(r) -> {"column", …}, { {value, …}, … } for CSV; nil: it has no such form
--   plot   function(r, options) -> figure; nil: it has no picture
--   methods, meta   more methods and metamethods
--
-- Values are numbers, texts, booleans and tables of them; tensors are saved as lists, models and functions are not
-- saved.
local journal = require "search.journal"
local nearest = require "nearest"

local record = {}

-- v as plain values: tensors as lists; nil for what has none.
local function plain(v)
  local kind = type(v)
  if kind == "number" or kind == "string" or kind == "boolean" then return v end
  if kind == "userdata" then
    local ok, list = pcall(function() return v:totable() end)
    return ok and list or nil
  end
  if kind ~= "table" then return nil end
  local out, any, listed = {}, next(v) == nil, v[1] ~= nil
  for key, item in pairs(v) do
    local own = plain(item)
    if own ~= nil then
      out[listed and key or tostring(key)], any = own, true -- a table by step or size is an object
    end
  end
  return any and out or nil
end

local function cell(v)
  if v == nil then return "" end
  if type(v) ~= "number" then
    v = tostring(v)
    return v:find '[,"\n]' and '"' .. v:gsub('"', '""') .. '"' or v
  end
  local text = journal.text(v)
  if text ~= "null" then return text end
  return v ~= v and "nan" or tostring(v) -- CSV has words for these
end

local function csv(r, how)
  if not how.rows then error(("record:save: a %s has no rows for .csv; save it as .json"):format(how.name), 0) end
  local head, rows = how.rows(r)
  local out = { table.concat(head, ",") }
  for _, row in ipairs(rows) do
    local cells = {}
    for k = 1, #head do cells[k] = cell(row[k]) end
    out[#out + 1] = table.concat(cells, ",")
  end
  return table.concat(out, "\n") .. "\n"
end

-- All values of a record as JSON, in one line; more: {name = value} besides.
function record.json(r, more)
  local all = plain(r)
  all.probe = getmetatable(r).__name
  for name, v in pairs(more or {}) do all[name] = plain(v) end
  return journal.text(all)
end

local function save(r, path, how)
  local form = type(path) == "string" and path:lower():match "%.(%a+)$"
  local text
  if form == "json" then
    text = record.json(r) .. "\n"
  elseif form == "csv" then
    text = csv(r, how)
  else
    error(("record:save: %s: records are saved as .json or .csv"):format(tostring(path)), 0)
  end
  local file, why = io.open(path, "wb")
  if not file then error(("record:save: cannot open %s"):format(why), 0) end
  local ok, closed
  ok, why = file:write(text)
  closed = file:close()
  if not (ok and closed) then error(("record:save: cannot write %s: %s"):format(path, why or "?"), 0) end
  return r
end

-- An error of f, told at the line of the script that called the method.
local function told(f, ...)
  local ok, result = pcall(f, ...)
  if not ok then error(result, type(result) == "string" and not result:find "^[^\n]-:%d+: " and 3 or 0) end
  return result
end

local fields = {} -- of every record that was made

-- What a record does not hold is nil, since fields depend on options and code may ask for those of another kind; but a
-- word that is all but one that it holds is a slip. -> that one
local function slip(r, key, methods)
  if type(key) ~= "string" or #key < 3 or fields[key] then return nil end
  local words = {}
  for word in pairs(methods) do words[word] = true end
  for word in pairs(r) do words[type(word) == "string" and word or ""] = true end
  return nearest(key, words, #key < 8 and 1 or 2)
end

-- record.kind("path", how) -> a function that makes records of this kind of a table of values.
function record.kind(name, how)
  how.name = name
  local methods = {
    save = function(r, path) return told(save, r, path, how) end,
    plot = function(r, o)
      if not how.plot then error(("record:plot: a %s has no picture"):format(name), 2) end
      return told(how.plot, r, o or {})
    end,
  }
  for key, f in pairs(how.methods or {}) do methods[key] = f end
  local Kind = { __name = name, __tostring = how.text }
  function Kind.__index(r, key)
    local method = methods[key]
    local near = method == nil and slip(r, key, methods)
    if not near then return method end
    local _, asked = pcall(error, "", 3) -- at whose line; the library's own ask for what may be there
    if asked:find "^stdlib/" or asked:find "^scripts/" then return nil end
    error(("%s: no field '%s'; did you mean '%s'?"):format(name, key, near), 2)
  end
  for key, f in pairs(how.meta or {}) do Kind[key] = f end
  return function(values)
    for field in pairs(values) do fields[field] = true end
    return setmetatable(values, Kind)
  end
end

-- A table as text: columns at the right, the first at the left. Rows are lists of texts.
function record.columns(head, rows)
  local widths, out = {}, {}
  for k, text in ipairs(head) do widths[k] = utf8.len(text) or #text end
  for _, row in ipairs(rows) do
    for k, text in ipairs(row) do widths[k] = math.max(widths[k], utf8.len(text) or #text) end
  end
  local function line(row)
    local cells = {}
    for k, text in ipairs(row) do
      local room = (" "):rep(widths[k] - (utf8.len(text) or #text))
      cells[k] = k == 1 and text .. room or room .. text
    end
    return (table.concat(cells, "  "):gsub(" +$", ""))
  end
  out[1] = line(head)
  for _, row in ipairs(rows) do out[#out + 1] = line(row) end
  return table.concat(out, "\n")
end

-- A number for reading.
function record.short(v)
  return v == nil and "" or v ~= v and "nan" or ("%.4g"):format(v)
end

-- Values from the least to the greatest as a series of plot.line, against the share of them that is below.
function record.sorted(label, values)
  local sorted, at = {}, {}
  for k, v in ipairs(values) do sorted[k] = v ~= v and math.huge or v end -- no number is one that has diverged
  table.sort(sorted)
  for k = 1, #sorted do at[k] = (k - 0.5) / #sorted end
  return { label, at, sorted }
end

-- p with the options of a picture, which come before what the record says itself.
function record.with(p, options)
  for key, v in pairs(options) do p[key] = v end
  return p
end

-- What records share that were trained: the loss of each step (`losses`).
record.losses = {
  rows = function(r)
    local rows = {}
    for k, v in ipairs(r.losses) do rows[k] = { k, v } end
    return { "step", "loss" }, rows
  end,
  plot = function(title)
    return function(r, o)
      return plot.line(record.with({ { "loss", r.losses }, title = title, xlabel = "step", ylabel = "loss" }, o))
    end
  end,
}

return record
