-- ends: error
-- says: module
require 'module\0/../../x'
