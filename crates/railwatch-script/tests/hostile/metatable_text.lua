-- Changes what every text can do.
-- outcome: error
getmetatable("").__index = function() while true do end end
return ("x").y
