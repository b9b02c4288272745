-- ends: error
-- says: did you mean 'module_good'
require 'module_god'
