-- A replacement that never returns.
-- outcome: stopped
return string.gsub("abc", ".", function() while true do end end) == ""
