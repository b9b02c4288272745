-- stop: 0.1
-- ends: interrupted
while true do end
