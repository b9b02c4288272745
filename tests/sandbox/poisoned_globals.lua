-- ends: error
-- says: still named

-- what the host itself calls does not go through names that a script can set
tostring, print, error_, pcall_ = nil, nil, error, pcall
string.format, string.find, table.concat = nil, nil, nil
_G._G = setmetatable({}, { __index = function() while true do end end })
error_(setmetatable({}, { __tostring = function() return 'still named' end }))
