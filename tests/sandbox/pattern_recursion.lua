-- within: 0.5
-- ends: error
-- says: pattern too complex
local s = ('a'):rep(1000)
s:find(('a?'):rep(1000))
