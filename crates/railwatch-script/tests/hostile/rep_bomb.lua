-- A gigabyte in one call.
-- outcome: error
return #string.rep("x", 1e9) > 0
