-- Catches the stop and claims to have succeeded.
-- outcome: stopped
pcall(function() while true do end end)
return true
