-- Replaces a function of the library.
-- outcome: error
string.format = function() return "" end
return false
