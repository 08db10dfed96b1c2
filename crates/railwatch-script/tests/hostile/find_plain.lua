-- A quadratic plain search inside one step.
-- outcome: error
return string.find(string.rep("a", 60000), string.rep("a", 20000) .. "b", 1, true) ~= nil
