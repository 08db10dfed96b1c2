-- A comparison that never returns.
-- outcome: stopped
table.sort({ 3, 2, 1 }, function() while true do end end)
return false
