-- SPDX-License-Identifier: Apache-2.0
-- replay MODEL: execute the plan that a saved model embeds again and compare every byte
--
-- Needs the inputs of the plan: found by --input, else where tarn-provenance.json says they were. No
-- script is run. Exit code 0: the same bytes, 1: different, 2: could not tell.
--
-- Options:
--   --NAME PATH          where the input NAME lies now
--   --input NAME=PATH…   the same, for names that are options of this program
--   --json               the result as one object
tarn.exit_on_error(2)
local command = require "command"
local args = command.parse()

local input = command.inputs(args)
local same, report = model.replay(args[1], { input = input })
if args.json then
  local json = require "json"
  print(json.encode(json.object { { "model", args[1] }, { "result", same and "same" or "different" },
    { "detail", report } }))
  os.exit(same and 0 or 1)
end
io.write(report)
if not args.quiet then
  print(same and args[1] .. ": the same bytes" or args[1] .. ": different")
end
os.exit(same and 0 or 1)
