-- SPDX-License-Identifier: Apache-2.0
-- The method rows as data: what merge.methods, `tarn methods` and the documentation say is one text,
-- every row is whole, its defaults lie in its ranges, and its example runs.
local check = require "check"
local folder <close> = require "folder"()

local docs = {}
for _, d in ipairs(tarn.docs()) do docs[d.name] = d end

-- The models that examples use freely, see docs/reference.md.
local models = {}
for name, file in pairs { base = "base", a = "low", b = "high", c = "twin" } do
  models[name] = model.open("examples/data/" .. file .. ".safetensors")
end

local function check_param(row, p)
  local what = row.name .. "." .. p.name
  assert(({ number = 1, integer = 1, boolean = 1, choice = 1 })[p.type], what)
  assert(p.doc and #p.doc > 10, what)
  assert(docs["merge." .. row.name].text:find("\n  " .. p.name .. ": " .. p.doc, 1, true), what)
  if p.type == "choice" then
    assert(#p.choices > 1 and p.default == p.choices[1], what)
  elseif p.default ~= nil and p.min then
    assert(p.default >= p.min and (not p.max or p.default <= p.max), what)
  end
end

local rows, by_name = merge.methods(), {}
assert(#rows >= 8)
for _, row in ipairs(rows) do
  local doc = docs["merge." .. row.name]
  by_name[row.name] = row
  assert(type(merge[row.name]) == "function", row.name)
  for _, field in ipairs { "summary", "paper", "example" } do
    assert(row[field] and #row[field] > 10, row.name .. " has no " .. field)
  end
  assert(row.tier == "A" or row.tier == "B", row.name)
  assert(row.version >= 1 and row.least >= 1 and (not row.most or row.most >= row.least), row.name)
  check.equal(doc.example, row.example, row.name)
  assert(doc.text:find(row.paper, 1, true) and doc.text:find(row.summary:sub(2), 1, true), row.name)
  assert(not row.detail or doc.text:find(row.detail, 1, true), row.name)
  for _, p in ipairs(row.params) do check_param(row, p) end
  local run = assert(load(row.example, "=example of " .. row.name, "t", setmetatable({ print = function() end },
    { __index = function(_, key) return models[key] or _G[key] end })))
  assert(row.example:find("merge." .. row.name, 1, true), row.name)
  run()
end
check.equal({ by_name.slerp.least, by_name.slerp.most, by_name.slerp.base }, { 2, 2, "none" })
check.equal({ by_name.ties.least, by_name.ties.most or "any", by_name.ties.base }, { 1, "any", "required" })
check.equal(by_name.ties.params[2].default, 0.2)
check.equal(by_name.ties.params[4].choices, { "global", "tensor" })

-- ---- the command ----

local code, out, err = folder.tarn "methods"
check.equal(code, 0, err)
local seen = 0
for line in out:gmatch "[^\n]+" do
  local row = by_name[line:match "^%S+"]
  seen = seen + (row and 1 or 0)
  assert(not row or line:find(row.summary, 1, true), line)
end
check.equal(seen, #rows)
for _, name in ipairs { "by.blocks", "model:save", "model.one_tokenizer" } do assert(out:find("\n" .. name .. " ", 1, true)) end
assert(out:find "\nmodel:cast +Every floating tensor rounded" and not out:find "%f[%w]nil%f[%W]", out)
assert(out:find("\nties +1%+ +yes +A +trim, elect sign, .* arXiv:2306%.01708\n"), out)

code, out = folder.tarn "methods ties"
check.equal(code, 0)
local _, same = folder.tarn "help merge.ties"
check.equal(out, same)
assert(out:find(by_name.ties.example, 1, true), out)
check.equal((select(2, folder.tarn "methods merge.ties")), out)

code, out, err = folder.tarn "methods tise"
check.equal({ code, out, err }, { 1, "", "tarn: no method 'tise'; did you mean 'ties'?\n" })

code, out = folder.tarn "methods --json"
check.equal(code, 0)
check.equal(select(2, out:gsub("\n", "\n")), #rows)
local d = yaml.read(out:match '[^\n]*"name":"ties"[^\n]*', "row") -- JSON is YAML
check.equal({ d.base, d.tier, d.params[2].default, d.params[2].max, d.params[1].per_model }, { "required", "A", 0.2, 1, true })
check.equal(d.params[4].choices[1], "global")
for line in out:gmatch "[^\n]+" do
  if line:find('"name":"pcb"', 1, true) then d = yaml.read(line, "row") end
end
check.equal({ d.params[1].uniform, d.params[4].uniform }, { true, false })
local pcb = select(2, folder.tarn "methods pcb"):gsub("%s+", " ")
assert(pcb:find("0.05); from 0 to 1; the same for all tensors: no by.… clamp:", 1, true), pcb)
assert(pcb:find("merged task vector; may be by.…", 1, true), pcb)
