-- A pattern with exponential backtracking.
-- outcome: stopped
return string.find(string.rep("a", 30000), string.rep("a*", 80) .. "b") ~= nil
