-- SPDX-License-Identifier: Apache-2.0
-- lock RECIPE: write down what a recipe stands on, beside it
--
-- Digests of all inputs, parameters, seeds, versions of methods and a hash of the plan go to a file of JSON: of
-- recipe.lua to recipe.lock. `tarn run` then refuses to run with anything else. To accept what changed, lock
-- again.
--
-- Options:
--   --NAME PATH          where the input NAME of the recipe lies
--   --input NAME=PATH…   the same, for names that are options of this program
--   --set NAME=VALUE…    the value of a parameter; a list as 0.6,0.4
--   --check              write nothing: exit code 0 when the lock matches, 1 and the differences when not, 2 when
--                        that could not be told
--   --untrusted          run the script in a process that has headers only: for recipes of strangers (docs/trust.md)
tarn.exit_on_error(2)
local command, show = require "command", require "show"
local args = command.parse()
if not args.check then tarn.exit_on_error(1) end  -- then 1 is no answer

local o = { input = command.inputs(args), set = command.named(args.set, "--set"), check = args.check,
  untrusted = args.untrusted }
local path, differences = recipe.lock(args[1], o)
for _, line in ipairs(differences or {}) do print(show(line)) end
if args.check then os.exit(#differences > 0 and 1 or 0) end
if not args.quiet then print(path .. ": written") end
