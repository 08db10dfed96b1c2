-- A text that grows by a factor of its own length.
-- outcome: stopped
local long = string.rep("x", 60000)
return #string.gsub(long, "x", long) > 0
