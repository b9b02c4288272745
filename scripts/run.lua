-- SPDX-License-Identifier: Apache-2.0
-- run RECIPE: run a recipe file: plan, compare with its lock, save, check
--
-- The script of the recipe runs without files, processes or environment; it gets the headers of the inputs
-- that it declares and answers with a plan, which is then run. A lock beside it (`tarn lock`) that does not
-- match stops the run before any work, with the differences. `tarn run RECIPE --help` shows what the recipe says
-- of itself. Inputs that the recipe finds in the hub's cache or in its folder need not be named.
--
-- Options:
--   -o, --out PATH       where to save: a folder, or one file if it ends in .safetensors
--   --NAME PATH          where the input NAME of the recipe lies
--   --input NAME=PATH…   the same, for names that are options of this program
--   --set NAME=VALUE…    the value of a parameter; a list as 0.6,0.4
--   --dry-run            print the plan, and stop
--   --force              replace a model that PATH holds
--   --lock FILE          another lock than the one beside the recipe, which has to be there
--   --no-lock            do not look at a lock
--   --no-digest          do not record the digests of what is saved
--   --untrusted          run the script in a process that has headers only: for recipes of strangers (docs/trust.md)
--   --sweep NAME=VALUES…  score the recipe at FROM:TO:STEP or A,B,…; with --out the best one is saved
--   --stage              operations that all points of a sweep share are done once, into files in TMPDIR; norms
--                        and thresholds of files are computed once in any case
--   --json               the plan, the sweep or the result as JSON
--   --help               behind RECIPE: inputs, licences and parameters of that recipe
local json, show = require "json", require "show"
local command = require "command"
local args = command.parse()
local path = args[1]

local input, set = command.inputs(args), command.named(args.set, "--set")

local function show_value(v)
  return type(v) == "table" and table.concat(v, ",") or type(v) == "number" and string.format("%g", v) or tostring(v)
end

local function table_of(rows)
  local width = {}
  for _, row in ipairs(rows) do
    for k, cell in ipairs(row) do width[k] = math.max(width[k] or 0, utf8.len(cell) or #cell) end
  end
  for _, row in ipairs(rows) do
    local line = " "
    for k, cell in ipairs(row) do line = line .. " " .. cell .. (" "):rep(width[k] - (utf8.len(cell) or #cell) + 1) end
    print((show(line):gsub("%s+$", "")))
  end
end

local function help()
  local about = recipe.load(path, { bare = true, untrusted = args.untrusted }).about
  print(show(about.name .. (about.version and " " .. about.version or "")))
  if about.summary then print((about.summary:gsub("[^\n]+", show))) end
  if #about.authors > 0 then print("by " .. show(table.concat(about.authors, ", "))) end
  print("licence of the result: " .. show(about.license or "not stated"))
  local rows = {}
  for i, row in ipairs(about.inputs) do
    rows[i] = { "--" .. row.name .. " PATH", row.source or (row.optional and "may be left out" or "to be given"),
      row.license or "licence not stated",
      (row.doc or "") .. (row.adapter_of and (row.doc and ", " or "") .. "adapter of " .. row.adapter_of or "") }
  end
  if #rows > 0 then
    print "\nInputs:"
    table_of(rows)
  end
  rows = {}
  for i, row in ipairs(about.params) do
    rows[i] = { "--set " .. row.name .. "=" .. (row.default == nil and "…" or show_value(row.default)), row.domain,
      row.doc or "" }
  end
  if #rows > 0 then
    print "\nParameters:"
    table_of(rows)
  end
  if about.unchecked then print "\nThe recipe's check of what it made reads data: it is not run without trust" end
  local licences, pairs_ = require "recipe.licences", {}
  for i, row in ipairs(about.inputs) do pairs_[i] = { row.name, row.license } end
  local warnings = licences.judge(about.license, pairs_)
  if #warnings > 0 then
    print "\nLicences (a hint, not legal advice):"
    for _, warning in ipairs(warnings) do print("  " .. show(warning)) end
  end
end

local function dry_run()
  local session = recipe.load(path, { input = input, set = set, untrusted = args.untrusted })
  for _, row in ipairs(session:plans()) do
    local plan = row.model:plan()
    plan.path = row.name ~= "" and row.name or args.out
    if args.json then
      print(json.encode(json.object { { "output", row.name } }):sub(1, -2) .. ',"plan":' .. plan.json .. "}")
    else
      print(plan:show(true))
    end
  end
end

local function params_json(session, params)
  local out = {}
  for i, row in ipairs(session.about.params) do out[i] = { row.name, params[row.name] } end
  return json.object(out)
end

local function score_json(score)
  if type(score) == "number" then return score end
  local out = {}
  for name, value in pairs(score) do out[#out + 1] = { name, value } end
  table.sort(out, function(a, b) return a[1] < b[1] end)
  return json.object(out)
end

local function run(values)
  local session = recipe.run(path, { out = args.out, input = input, set = values, overwrite = args.force,
    lock = args.lock or not args.no_lock, digest = not args.no_digest, untrusted = args.untrusted })
  if args.json then
    print(json.encode(json.object { { "out", args.out }, { "params", params_json(session, session.params) },
      { "locked", session.locked }, { "checked", session.about.check } }))
  elseif not args.quiet then
    print(string.format("%s: saved%s%s", args.out, session.locked and ", as the lock says" or "",
      session.about.check and ", checked" or session.about.unchecked and ", not checked" or ""))
  end
end

local function sweep()
  if args.untrusted then command.misused "--sweep scores a recipe, which needs data: not with --untrusted" end
  local s = recipe.sweep(path, { input = input, set = set, over = command.named(args.sweep, "--sweep"),
    stage = args.stage })
  if args.json then
    for _, point in ipairs(s) do
      print(json.encode(json.object { { "params", params_json(s.session, point.params) },
        { "score", score_json(point.score) }, { "best", point == s.best } }))
    end
  else
    print(s)
    if #s.shared > 0 and not args.quiet then print("computed once for all points: " .. table.concat(s.shared, ", ")) end
    if #s.repeated > 0 and not args.quiet then
      print(string.format("done again at each point, though the same: %s (norms and thresholds of files are "
        .. "remembered%s)", table.concat(s.repeated, ", "),
        args.stage and "" or "; --stage does the rest once, into temporary files"))
    end
  end
  if args.out then run(s.best.params) end
end

if args.help then
  help()
elseif args.dry_run then
  dry_run()
elseif args.sweep then
  sweep()
elseif not args.out then
  command.misused("where to? Give -o PATH (or --dry-run, which saves nothing)")
else
  run(set)
end
