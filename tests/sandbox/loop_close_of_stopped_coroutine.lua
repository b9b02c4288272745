-- trust: recipe
-- seconds: 0.05
-- ends: limit

-- the hook is off for good in a coroutine that a stop ended: nothing may run there any more
local looping = setmetatable({}, { __close = function() while true do end end })
local co = coroutine.create(function() local x <close> = looping; while true do end end)
local y <close> = setmetatable({}, { __close = function() coroutine.close(co) end })
coroutine.resume(co)
