-- A gigabyte in two calls.
-- outcome: error
return #string.rep(string.rep("x", 60000), 20000) > 0
