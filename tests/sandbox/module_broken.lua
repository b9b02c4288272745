-- skip: a module
error 'broken'
