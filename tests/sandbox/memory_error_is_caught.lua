-- trust: script
-- memory: 32
-- ends: ok
for i = 1, 5 do
  local ok, e = pcall(function() local s = 'x' while true do s = s .. s end end)
  assert(not ok and tostring(e):find 'memory')
end
