-- A finalizer that would run at any time.
-- outcome: error
setmetatable({}, { __gc = function() while true do end end })
return false
