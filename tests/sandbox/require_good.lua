-- ends: ok
-- prints: loaded once
assert(require 'module_good' == require 'module_good')
assert(require 'module_good'.answer == 42)
