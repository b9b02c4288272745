-- ends: error
-- says: module_broken.lua
require 'module_broken'
