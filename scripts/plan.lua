-- SPDX-License-Identifier: Apache-2.0
-- plan SCRIPT [ARGUMENT…]: what a script would read, compute and write, without doing it
--
-- Runs the script with saving replaced by planning: headers are read, data is not, and asking for a
-- value of a file is an error. Shows for every model that would be saved the passes over the data, bytes
-- read and written, peak memory, every resolved parameter with its origin (given, default, or the by.…
-- that it came from), and what makes each tensor, at which cost.
--
-- Options:
--   --brief           no lines for single tensors
--   --names REGEX     only tensors in whose name the regular expression is found
--   --measure         try for two seconds how fast this machine reads, computes and writes it, and estimate
--   --json            one object a plan, with every tensor and the canonical plan that a saved model embeds
local json = require "json"
local args = require("command").parse()

local script = args[1]
local run, message = loadfile(script)
if not run then
  error(message, 0)
end
arg = table.move(args, 2, #args, 1, { [0] = script })

local function tensor_json(t)
  for i, p in ipairs(t.parameters) do t.parameters[i] = json.pick(p, { "node", "name", "model", "value", "origin" }) end
  for _, key in ipairs { "shape", "from", "parameters" } do t[key] = json.list(t[key]) end
  return json.pick(t, { "name", "dtype", "shape", "method", "note", "parameters", "from", "copied", "passes", "reads",
    "more", "writes", "workspace", "held", "with" })
end

local function print_json(plan, names)
  local tensors = plan:explain(names)
  for i, t in ipairs(tensors) do tensors[i] = tensor_json(t) end
  plan.tensors = not args.brief and json.list(tensors) or nil
  plan.time = plan.time and json.pick(plan.time, { "seconds", "reading", "running", "writing", "hashing", "read_rate",
    "run_rate", "write_rate", "sampled" })
  local head = json.encode(json.pick(plan, { "path", "passes", "barriers", "reads", "more", "writes", "peak", "time",
    "tensors" }))
  print(head:sub(1, -2) .. ',"plan":' .. plan.json .. "}")
end

local plans = model.plans(run, table.unpack(arg))
if #plans == 0 then
  print(script .. " saves nothing")
end
for _, plan in ipairs(plans) do
  local names
  for _, name in ipairs(args.names and plan.model:names(args.names) or {}) do
    names = names or {}
    names[name] = true
  end
  names = names or (args.names and {})
  if args.measure then plan:measure() end
  if args.json then
    print_json(plan, names)
  else
    print(plan:show(not args.brief, names))
  end
end
