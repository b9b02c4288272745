-- SPDX-License-Identifier: Apache-2.0
-- replay MODEL: execute the plan that a saved model embeds again and compare every byte
--
-- Needs the inputs of the plan: found by --input, else where tarn-provenance.json says they were. No
-- script is run. Exit code 0: the same bytes, 1: different, 2: could not tell.
--
-- Options:
--   --input NAME=PATH…   where an input lies now; may be given several times
tarn.exit_on_error(2)
local command = require "command"
local args = command.parse()

local input = {}
for _, word in ipairs(args.input or {}) do
  local name, path = word:match "^([^=]+)=(.+)$"
  if not name then
    command.misused("--input %s: expected NAME=PATH", word)
  end
  input[name] = path
end
local same, report = model.replay(args[1], { input = input })
io.write(report)
if not args.quiet then
  print(same and args[1] .. ": the same bytes" or args[1] .. ": different")
end
os.exit(same and 0 or 1)
