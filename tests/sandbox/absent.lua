-- ends: ok
for _, name in ipairs { 'debug', 'package', 'jit', 'ffi', 'newproxy', 'setfenv', 'loadstring' } do
  assert(rawget(_G, name) == nil, name)
end
assert(string.dump == nil and coroutine.close and not pcall(require, 'debug'))
assert(not pcall(require, 'package') and not pcall(require, 'io.x'))
