-- ends: ok
-- warns: 1
warn '@off'
warn('one', ' ', 'two')
warn '@on'
