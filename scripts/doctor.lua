-- SPDX-License-Identifier: Apache-2.0
-- doctor OUT: why a merge came out as it did
--
-- Compares a model that tarn saved with the inputs that it records, tensor by tensor and by layer:
-- norms, what is left of each model's change, directions that were counted more than once, conflicts
-- of sign, effective ranks, what rounding took, tensors that were copied or dropped. Names the ten
-- worst, with what each usually means. Inputs are found by --input, else where tarn-provenance.json
-- says they were. The merge runs again to see what rounding did.
--
-- Options:
--   --input NAME=PATH…  where an input lies now; may be given several times
--   --all               all findings, and a line for every tensor
--   --matrices N        look at the directions of so many matrices, by some of their rows (default 24)
--   --no-rerun          without what rounding did; the merge does not run again
--   --json              one object: findings, whole, layers, tensors, copied, unused
local json, show, doctor = require "json", require "show", require "doctor.signs"
local command = require "command"
local args = command.parse()

local input = command.named(args.input, "--input")

local merged, dtype = model.recall(args[1], { input = input })
local stored = model.open(args[1])
local report = merge.report { merged, of = stored, dtype = dtype, rounding = not args.no_rerun }
local plan = merged:plan { dtype = dtype }
doctor.add_spectra(report, plan, stored, args.matrices or 24)
local findings = doctor.diagnose(report)

local copied, gone = {}, {}
for i, t in ipairs(plan.tensors) do
  if report.tensors[i].gone then
    gone[#gone + 1] = t.name
  elseif t.copied then
    copied[#copied + 1] = { t.name, t.copied }
  end
end

local function first(list, n, name)
  local out = {}
  for i = 1, math.min(n, #list) do out[i] = show(name and name(list[i]) or list[i]) end
  return table.concat(out, ", ") .. (#list > n and string.format(" and %d more", #list - n) or "")
end

local plural = require("amount").plural

-- Broken between words, set in by four.
local function print_wrapped(text)
  local line = "   "
  for word in text:gmatch "%S+" do
    if utf8.len(line) + utf8.len(word) > 95 then
      print(line)
      line = "   "
    end
    line = line .. " " .. word
  end
  print(line)
end

local function print_tensor(i, d)
  local worst, also = d.signs[1], {}
  print(string.format("%2d. %s: %s: %s", i, show(d.tensor), worst.sign, worst.seen))
  print_wrapped(worst.meaning)
  for k = 2, #d.signs do also[#also + 1] = string.format("%s (%s)", d.signs[k].sign, d.signs[k].seen) end
  if #also > 0 then print_wrapped("Also: " .. table.concat(also, "; ")) end
end

local function print_findings()
  if #findings == 0 then
    print "Nothing looks wrong: weights keep their size, and what the models changed is there."
    return
  end
  print(string.format("%d of %s show signs of trouble%s", #findings, plural(#report.tensors, "tensor"),
    (args.all or #findings <= 10) and ", the worst first:" or "; the ten worst:"))
  local count, order = {}, {}
  for i, d in ipairs(findings) do
    if args.all or i <= 10 then print_tensor(i, d) end
    for _, s in ipairs(d.signs) do
      if not count[s.sign] then order[#order + 1] = s.sign end
      count[s.sign] = (count[s.sign] or 0) + 1
    end
  end
  for i, sign in ipairs(order) do order[i] = string.format("%s in %d", sign, count[sign]) end
  print_wrapped("In all tensors: " .. table.concat(order, ", "))
end

local function print_spectra()
  local seen = {}
  for _, t in ipairs(report.tensors) do
    if t.spectrum then seen[#seen + 1] = t end
  end
  if #seen == 0 then return end
  print(string.format("\nEffective rank of the change of the result <- of the models, in up to %d rows:",
    seen[1].spectrum.rows))
  for i = 1, args.all and #seen or math.min(10, #seen) do
    local s, ranks = seen[i].spectrum, {}
    for k, rank in ipairs(s.ranks) do ranks[k] = string.format("%.1f", rank) end
    print(string.format("  %s: %.1f <- %s%s", show(seen[i].name), s.rank, table.concat(ranks, ", "), s.held
      and string.format("; shared directions %.0f %%, held %.2f times", 100 * math.min(1, s.shared), s.held) or ""))
  end
  if #seen > 10 and not args.all then print(string.format("  and %d more (--all)", #seen - 10)) end
end

local function print_text()
  print_findings()
  print("\n" .. report:show(args.all))
  print_spectra()
  if #copied > 0 then
    print(string.format("\n%s copied, not merged: %s", plural(#copied, "tensor"), first(copied, 5, function(c)
      return c[1]
    end)))
  end
  for _, i in ipairs(plan.inputs) do
    if #i.unused > 0 then
      print(string.format("%s of %s went nowhere: %s", plural(#i.unused, "tensor"), i.label, first(i.unused, 5)))
    end
  end
  if #gone > 0 then
    print(string.format("%s that the plan makes: not in %s: %s", plural(#gone, "tensor"), args[1], first(gone, 5)))
  end
end

local function print_json()
  local list, copies, unused, spectra = {}, {}, {}, {}
  for _, t in ipairs(report.tensors) do
    local s = t.spectrum
    if s then
      spectra[#spectra + 1] = json.object { { "tensor", t.name }, { "rank", s.rank }, { "ranks", json.list(s.ranks) },
        { "rows", s.rows }, { "shared", s.shared }, { "held", s.held or 0 / 0 } } -- null
    end
  end
  for i, d in ipairs(findings) do
    local signs = {}
    for k, s in ipairs(d.signs) do
      signs[k] = json.object { { "sign", s.sign }, { "grave", s.grave }, { "seen", s.seen }, { "meaning", s.meaning } }
    end
    list[i] = json.object { { "tensor", d.tensor }, { "signs", json.list(signs) } }
  end
  for i, c in ipairs(copied) do copies[i] = json.object { { "name", c[1] }, { "why", c[2] } } end
  for i, m in ipairs(plan.inputs) do unused[i] = { m.label, json.list(m.unused) } end
  local head = json.encode(json.object { { "path", args[1] }, { "findings", json.list(list) },
    { "copied", json.list(copies) }, { "gone", json.list(gone) }, { "unused", json.object(unused) },
    { "spectra", json.list(spectra) } })
  print(head:sub(1, -2) .. ',"report":' .. report:json() .. "}")
end

if args.json then print_json() else print_text() end
