-- Loads a module.
-- outcome: error
return require("os") ~= nil
