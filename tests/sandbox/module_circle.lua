-- skip: a module
return require 'module_circle_too'
