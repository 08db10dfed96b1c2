-- A closing handler on a table of its own.
-- outcome: error
local t = setmetatable({}, { __close = function() while true do end end, __index = function(t, k) return t[k] end })
return t.x
