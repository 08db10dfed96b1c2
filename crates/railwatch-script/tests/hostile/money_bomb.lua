-- More amounts than a call may make.
-- outcome: error
for i = 1, 1e6 do local m = money(i, "EUR") end
return false
