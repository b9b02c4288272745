-- SPDX-License-Identifier: Apache-2.0
-- verify MODEL: compare a saved model with the hashes that were recorded of it and of its inputs
--
-- Looks at the tensors and side files of the output (recorded by `tarn run`), the plan, and the inputs where they
-- still lie. Exit code 0: all that could be compared is the same, 1: something differs, 2: the output itself
-- could not be told. `tarn replay` makes the model again and compares every byte.
--
-- Options:
--   --NAME PATH          where the input NAME lies now
--   --input NAME=PATH…   the same, for names that are options of this program
--   --json               one object a line
tarn.exit_on_error(2)
local json, show, command = require "json", require "show", require "command"
local args = command.parse()

local input = command.inputs(args)

local code = 0
for _, row in ipairs(recipe.verify(args[1], { input = input })) do
  if row.result == "different" then
    code = 1
  elseif row.result == "unknown" and row.what == "output" and code == 0 then
    code = 2
  end
  if args.json then
    print(json.encode(json.object { { "what", row.what }, { "result", row.result }, { "detail", row.detail or "" } }))
  elseif row.result ~= "same" or not args.quiet then
    print(show(row.what) .. ": " .. row.result .. (row.detail and ": " .. show(row.detail) or ""))
  end
end
os.exit(code)
