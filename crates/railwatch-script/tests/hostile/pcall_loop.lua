-- Catches its own execution, again and again.
-- outcome: stopped
while true do pcall(function() while true do end end) end
