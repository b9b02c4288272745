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
local plan_json = require "plan_json"
local args = require("command").parse()

local script = args[1]
local run, message = loadfile(script)
if not run then
  error(message, 0)
end
arg = table.move(args, 2, #args, 1, { [0] = script })

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
    print(plan_json(plan, args.brief, names))
  else
    print(plan:show(not args.brief, names))
  end
end
