-- A note that is too long.
-- outcome: error
state.note = string.rep("x", 60000)
return false
