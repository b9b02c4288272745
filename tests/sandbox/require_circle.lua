-- ends: error
-- says: require each other in a loop
require 'module_circle'
