-- SPDX-License-Identifier: Apache-2.0
-- Licences of models: SPDX identifiers and the names that model hubs use, and what each asks of a work
-- made from it, in the few words that are needed to warn. It is a hint for someone who then reads the
-- licences, and no legal advice.

-- kind: free (little more than keeping the notice), share (what is made from it keeps this licence),
-- research (no commercial use), fixed (nothing may be made from it), terms (a licence of its own with
-- conditions on use, that go with what is made from it)
local rows = {
  { "Apache-2.0", "free" }, { "MIT", "free" }, { "BSD-2-Clause", "free" }, { "BSD-3-Clause", "free" },
  { "BSD-3-Clause-Clear", "free" }, { "ISC", "free" }, { "Zlib", "free" }, { "Unlicense", "free" }, { "0BSD", "free" },
  { "BSL-1.0", "free" }, { "CC0-1.0", "free" }, { "CC-BY-3.0", "free" }, { "CC-BY-4.0", "free" },
  { "PostgreSQL", "free" },
  { "ECL-2.0", "free" }, { "AFL-3.0", "free" }, { "NCSA", "free" }, { "Artistic-2.0", "free" }, { "MS-PL", "free" },
  { "WTFPL", "free" }, { "PDDL", "free", also = { "PDDL-1.0" } }, { "ODC-By", "free", also = { "ODC-By-1.0" } },
  { "CDLA-Permissive-1.0", "free" }, { "CDLA-Permissive-2.0", "free" },
  { "CC-BY-SA-3.0", "share" }, { "CC-BY-SA-4.0", "share" }, { "ODbL-1.0", "share", also = { "ODbL" } },
  { "CDLA-Sharing-1.0", "share" }, { "MPL-2.0", "share" }, { "EPL-1.0", "share" }, { "EPL-2.0", "share" },
  { "EUPL-1.1", "share" }, { "EUPL-1.2", "share" }, { "OSL-3.0", "share" },
  { "LGPL-2.1", "share", also = { "LGPL-2.1-only", "LGPL-2.1-or-later" } },
  { "LGPL-3.0", "share", also = { "LGPL-3.0-only", "LGPL-3.0-or-later" } },
  { "GPL-2.0", "share", also = { "GPL-2.0-only", "GPL-2.0-or-later" } },
  { "GPL-3.0", "share", also = { "GPL-3.0-only", "GPL-3.0-or-later" } },
  { "AGPL-3.0", "share", also = { "AGPL-3.0-only", "AGPL-3.0-or-later" } },
  { "CC-BY-NC-2.0", "research" }, { "CC-BY-NC-3.0", "research" }, { "CC-BY-NC-4.0", "research" },
  { "CC-BY-NC-SA-2.0", "research", same = true }, { "CC-BY-NC-SA-3.0", "research", same = true },
  { "CC-BY-NC-SA-4.0", "research", same = true },
  { "CC-BY-ND-4.0", "fixed" }, { "CC-BY-NC-ND-3.0", "fixed" }, { "CC-BY-NC-ND-4.0", "fixed" },
  { "FAIR-Noncommercial-Research-License", "research" }, { "Intel-Research", "research" },
  { "Apple-AMLR", "research" }, { "Apple-ASCL", "terms" },
  { "Llama2", "terms", name = "Llama 2 Community License" },
  { "Llama3", "terms", name = "Llama 3 Community License" },
  { "Llama3.1", "terms", name = "Llama 3.1 Community License" },
  { "Llama3.2", "terms", name = "Llama 3.2 Community License" },
  { "Llama3.3", "terms", name = "Llama 3.3 Community License" },
  { "Llama4", "terms", name = "Llama 4 Community License" },
  { "Gemma", "terms", name = "Gemma Terms of Use" }, { "DeepFloyd-IF-License", "research" },
  { "OpenRAIL", "terms" }, { "OpenRAIL++", "terms" }, { "CreativeML-OpenRAIL-M", "terms" },
  { "BigScience-OpenRAIL-M", "terms" }, { "BigScience-BLOOM-RAIL-1.0", "terms" }, { "BigCode-OpenRAIL-M", "terms" },
  { "H-Research", "research" }, { "Open-MDW", "free" },
}

local known = {}
for _, row in ipairs(rows) do
  local licence = { id = row[1], kind = row[2], same = row.same, name = row.name or row[1] }
  known[row[1]:lower()] = licence
  for _, other in ipairs(row.also or {}) do known[other:lower()] = licence end
end

local licences = {}

-- What is known of an identifier, in any case of letters: {id, kind, same, name}, or nil.
function licences.find(id)
  return known[id:lower()]
end

-- Why an identifier is no licence that could be judged, or nil. "other" and LicenseRef-… are taken as they are.
function licences.mistake(id)
  local low = id:lower()
  if known[low] or low == "other" or low == "unknown" or low:find "^licenseref%-[%w.-]+$" then return nil end
  local near = require "nearest"(low, known)
  return string.format("'%s' is no licence that is known here%s (LicenseRef-NAME stands for one of your own)", id,
    near and ", did you mean '" .. known[near].id .. "'?" or "")
end

local judged = {
  fixed = function() return "does not let anything made from it be passed on" end,
  research = function(out)
    if not out or out.kind ~= "research" then return "forbids commercial use" end
  end,
  share = function(out, from)
    if not out or out.id ~= from.id then return "asks that what is made from it keeps its licence" end
  end,
  terms = function(out, from)
    if not out or out.id ~= from.id then return "has terms of use that go with what is made from it" end
  end,
}

-- judge(licence of the result or nil, { {name, licence}, … }) -> a list of warnings.
function licences.judge(result, inputs)
  local out, warnings = result and licences.find(result), {}
  local stated = result and "the result says " .. result or "the result states no licence"
  for _, input in ipairs(inputs) do
    local name, id = input[1], input[2]
    local from = id and licences.find(id)
    if not id then
      warnings[#warnings + 1] = name .. ": no licence is stated for it"
    elseif not from then
      warnings[#warnings + 1] = string.format("%s: '%s' is not known here; read it", name, id)
    else
      local judge = judged[from.kind]
      local why = judge and judge(out, from)
      if from.same and not why and out and out.id ~= from.id then why = judged.share(out, from) end
      if why then warnings[#warnings + 1] = string.format("%s: %s %s; %s", name, from.name, why, stated) end
    end
  end
  return warnings
end

-- What the model card beside a model says of its licence, or nil.
function licences.of_folder(path)
  local file = io.open(path .. "/README.md", "r") or io.open((path:match "^(.*)/[^/]*$" or ".") .. "/README.md", "r")
  local text = file and file:read(65536)
  if file then file:close() end
  local front = text and text:match "^%-%-%-\n(.-)\n%-%-%-"
  return front and ("\n" .. front):match "\nlicense:%s*[\"']?([^%s\"'#]+)"
end

return licences
