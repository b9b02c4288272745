-- trust: recipe
-- seconds: 0.05
-- ends: limit
local co = coroutine.create(function()
  while true do pcall(function() coroutine.yield() while true do end end) end
end)
coroutine.resume(co)
coroutine.resume(co)
