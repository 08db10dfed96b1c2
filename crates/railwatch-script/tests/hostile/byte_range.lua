-- One result per byte.
-- outcome: false
return select("#", string.byte(string.rep("x", 65000), 1, -1)) ~= 65000
