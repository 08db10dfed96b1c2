-- A chain of tables that is never let go.
-- outcome: stopped
local t = {}
while true do t = { t, table.create(500, 1) } end
