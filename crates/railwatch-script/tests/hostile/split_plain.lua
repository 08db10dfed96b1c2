-- The same through split.
-- outcome: error
return #string.split(string.rep("a", 60000), string.rep("a", 20000)) > 0
