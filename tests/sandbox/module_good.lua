-- skip: a module
print 'loaded once'
return { answer = 42 }
