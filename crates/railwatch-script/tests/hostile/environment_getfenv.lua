-- Asks for the environment of its caller.
-- outcome: error
getfenv(0).usd = nil
return false
