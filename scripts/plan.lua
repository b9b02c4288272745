-- SPDX-License-Identifier: Apache-2.0
-- plan SCRIPT [ARGUMENT…]: what a script would read, compute and write, without doing it
--
-- Runs the script with saving replaced by planning: headers are read, data is not, and asking for a
-- value of a file is an error. Shows for every model that would be saved the passes over the data, bytes
-- read and written, peak memory, every resolved parameter, and what each tensor is made of.
--
-- Options:
--   --brief           no lines for single tensors
--   --json            one object a plan, with the canonical plan that a saved model embeds
local json = require "json"
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
  if args.json then
    print(string.format('{"path":%s,"passes":%d,"barriers":%d,"reads":%d,"writes":%d,"peak":%d,"plan":%s}',
      json.encode(plan.path), plan.passes, plan.barriers, plan.reads, plan.writes, plan.peak, plan.json))
  else
    print(plan:show(not args.brief))
  end
end
