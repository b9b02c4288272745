-- ends: error
error('a\0b')
