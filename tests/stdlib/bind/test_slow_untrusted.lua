-- SPDX-License-Identifier: Apache-2.0
-- Every attack of tests/sandbox once more, from inside the process that runs recipes without trust: each ends
-- in an error that has a reason, in time, and the process neither died nor tried a forbidden system call on
-- the way (its own limits come first).
local list = assert(io.popen "ls tests/sandbox/*.lua")
local seconds, ran = 0.5, 0
local broken = { Forbidden = true, ChildDied = true, NoJail = true, AnswerInvalid = true }

for path in list:lines() do
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  local start = os.time()
  local ok, err = pcall(tarn.untrusted, path, text, "describe", "{}", {}, seconds)
  if ok then error(path .. ": no error, though it is no recipe") end
  if broken[type(err) ~= "string" and err.code] then error(path .. ": " .. tostring(err)) end
  if os.difftime(os.time(), start) > 60 then error(path .. ": took too long") end
  ran = ran + 1
end
assert(ran > 100)
