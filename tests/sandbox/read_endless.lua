-- trust: script
-- memory: 8000
-- stop: 0.1
-- ends: interrupted
local f <close> = assert(io.open('/dev/zero', 'rb'))
f:read 'a'
