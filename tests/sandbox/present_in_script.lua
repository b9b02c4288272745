-- trust: script
-- ends: ok
assert(io.open and io.lines and os.time and os.getenv and os.exit and dofile and loadfile)
assert(os.setlocale == nil and getmetatable(io.stdout) == false)
assert(type(math.random()) == 'number' and math.random(3) <= 3)
assert(type(os.time()) == 'number')
