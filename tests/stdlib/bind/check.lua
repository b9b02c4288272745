-- SPDX-License-Identifier: Apache-2.0
-- What the tests written in Lua share.
local check = {}

function check.equal(got, want, what)
  if type(want) == "table" and type(got) == "table" then
    check.equal(#got, #want, (what or "list") .. ": length")
    for i = 1, #want do check.equal(got[i], want[i], (what or "list") .. "[" .. i .. "]") end
    return
  end
  local same = got == want or (got ~= got and want ~= want)
  if not same or math.type(got) ~= math.type(want) then
    error((what and what .. ": " or "") .. "expected " .. tostring(want) .. ", got " .. tostring(got), 2)
  end
end

-- A tensor against nested tables, exactly; its shape too.
function check.tensor(t, want, what)
  check.equal(t:totable(), want, what)
end

function check.near(got, want, tolerance, what)
  if math.abs(got - want) <= tolerance then return end
  error((what and what .. ": " or "") .. "expected " .. want .. ", got " .. got, 2)
end

-- f raises, and the message holds the text (plain).
function check.raises(text, f, ...)
  local ok, err = pcall(f, ...)
  if ok then error("no error; expected: " .. text, 2) end
  if not tostring(err):find(text, 1, true) then
    error("expected an error with: " .. text .. "\ngot: " .. tostring(err), 2)
  end
end

return check
