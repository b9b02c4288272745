-- ends: ok
local function hidden(v)
  local s = tostring(v)
  assert(not s:find '0x' and not s:find '%x%x%x%x%x%x', s)
  s = ('%s %10s'):format(v, v)
  assert(not s:find '0x', s)
end
hidden(print) hidden({}) hidden(function() end) hidden(coroutine.create(print)) hidden(string.rep)
hidden(setmetatable({}, { __name = 'mine' }))
local ok, e = pcall(error, {})
hidden(e)
ok, e = pcall(function() return {} .. 'x' end)
hidden(e)
ok, e = pcall(string.rep, {}, {})
hidden(e)
if rawget(_G, 'io') then hidden(io.stdout) end
