-- A note that is a table.
-- outcome: error
state.note = { 1, 2, 3 }
return false
