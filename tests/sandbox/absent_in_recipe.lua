-- trust: recipe
-- ends: error
-- says: io is not available to a recipe
assert(rawget(_G, 'os') == nil and rawget(_G, 'io') == nil)
assert(rawget(_G, 'dofile') == nil and rawget(_G, 'loadfile') == nil)
io.write 'x'
