-- skip: a module
return 42
