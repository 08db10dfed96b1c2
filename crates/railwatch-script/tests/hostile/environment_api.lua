-- Replaces a function of the API.
-- outcome: error
usd = function() return 0 end
return false
