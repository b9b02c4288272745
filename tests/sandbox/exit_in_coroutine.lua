-- within: 0.5
-- trust: script
-- ends: exit 7
local co = coroutine.wrap(function() pcall(os.exit, 7) end)
pcall(co)
while true do end
