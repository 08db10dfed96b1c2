-- The handler of the error loops too.
-- outcome: stopped
xpcall(function() while true do end end, function() while true do end end)
return true
