-- ends: ok
assert(collectgarbage 'count' > 0 and collectgarbage() == 0 and collectgarbage 'collect' == 0)
for _, what in ipairs { 'stop', 'restart', 'generational', 'incremental', 'step', 'setpause' } do
  assert(not pcall(collectgarbage, what), what)
end
