-- Two functions that call each other.
-- outcome: error
local f, g
f = function() return 1 + g() end
g = function() return 1 + f() end
return f() > 0
