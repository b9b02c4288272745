-- ends: ok
local s = ('aBc1'):rep(600000)
assert(s:upper() == ('ABC1'):rep(600000) and s:lower() == ('abc1'):rep(600000))
assert(s:reverse() == ('1cBa'):rep(600000) and s:reverse():reverse() == s and (''):upper() == '')
