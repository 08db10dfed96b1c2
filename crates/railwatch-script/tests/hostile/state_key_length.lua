-- A key that is too long.
-- outcome: error
state[string.rep("k", 1000)] = 1
return false
