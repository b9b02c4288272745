-- trust: script
-- memory: 32
-- stop: 0.2
-- ends: interrupted
while true do pcall(function() local s = 'x' while true do s = s .. s end end) end
