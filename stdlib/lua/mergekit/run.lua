-- SPDX-License-Identifier: Apache-2.0
-- From the path of a mergekit configuration to the merge, for the commands merge and convert.

local config, build = require "mergekit.config", require("mergekit.build").build
local text_of = require "text_file"

local run = {}

-- What the library says points at the configuration or names the file; where in a command it came up
-- is no help.
function run.plainly(f, ...)
  local ok, r = pcall(f, ...)
  if ok then return r end
  local message = type(r) == "userdata" and r.message .. (r.code ~= "" and " [" .. r.code .. "]" or "")
    or tostring(r):gsub("^scripts/%a+%.lua:%d+: ", "")
  error(message, 0)
end

-- The descriptions of a file of several documents, as mergekit-multi takes them: by name, and the one
-- without a name, which is the output.
local function several(docs, at, path)
  local names, by_name, whole = {}, {}, nil
  local function where(doc) return ("%s:%d"):format(path, at[doc] and (at[doc].lines.name or at[doc].line) or 1) end
  for _, doc in ipairs(docs) do
    local name = type(doc) == "table" and doc.name
    if type(name) == "string" then
      if names[name] then error(("%s: two documents are called %s"):format(where(doc), name), 0) end
      names[name] = true
    elseif name and name ~= yaml.null then
      error(("%s: the name of a document is %s, expected a text"):format(where(doc), tostring(name)), 0)
    end
  end
  for _, doc in ipairs(docs) do
    local d = config.read(doc, at, path, yaml.null, names)
    d.where = where(doc)
    if not d.document and whole then
      error(("%s: two documents have no name; the one without is what is written"):format(d.where), 0)
    end
    if d.document then by_name[d.document] = d else whole = d end
  end
  if not whole then
    error(("%s: every document has a name; the one without is what is written"):format(path), 0)
  end
  return by_name, whole
end

-- read(path, arguments of the command) -> model, dtype of the output, description
function run.read(path, args)
  local docs, at = yaml.documents(text_of(path), path)
  local by_name, whole
  if #docs > 1 then
    by_name, whole = several(docs, at, path)
  else
    by_name, whole = {}, config.read(docs[1] or yaml.null, at, path, yaml.null)
  end
  local o = { seed = args.seed or 0, strict = args.strict, missing = args.missing, on_integer = args.on_integer,
    truncate = args.truncate_embeddings,
    made = {}, said = {}, steps = {}, names = {} }
  local function made(d)
    if d.making then error(("%s: document %s needs itself"):format(d.where, d.document), 0) end
    d.making = true
    for _, m in ipairs(d.models) do
      local from = m.document and by_name[m.document]
      if from then
        o.made[m.document] = o.made[m.document] or made(from)
        m.files = from.files
      end
    end
    d.making = false
    return build(d, o)
  end
  local merged = made(whole)
  for name, d in pairs(by_name) do
    if not o.made[name] then warn(("%s: document %s is not used"):format(d.where, name)) end
  end
  return merged, args.dtype or whole.out_dtype or whole.dtype, whole
end

return run
