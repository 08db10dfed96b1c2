-- Ever new names of signals.
-- outcome: error
local n = 0
while true do n = n + 1 local s = a:signal("custom" .. n).value end
