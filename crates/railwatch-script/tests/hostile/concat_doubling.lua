-- A text that doubles until memory ends.
-- outcome: stopped
local s = "x"
while true do s = s .. s end
