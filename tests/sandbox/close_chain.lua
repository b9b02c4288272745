-- trust: recipe
-- within: 0.5
-- ends: ok
local co
for i = 1, 20000 do
  local inner = co
  co = coroutine.create(function()
    local x <close> = setmetatable({}, { __close = function() if inner then assert(coroutine.close(inner)) end end })
    coroutine.yield()
  end)
  coroutine.resume(co)
end
local ok, e = coroutine.close(co)
assert(not ok and e:find 'nested too deep')
