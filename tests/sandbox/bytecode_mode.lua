-- ends: error
-- says: compiled chunks are not accepted
load('return 1', 'x', 'b')
