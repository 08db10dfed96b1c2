-- A loop without end.
-- outcome: stopped
while true do end
