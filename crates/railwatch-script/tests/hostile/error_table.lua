-- An error that is a table with a function in it.
-- outcome: error
error({ message = function() while true do end end })
