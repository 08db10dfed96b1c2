-- Too many captures.
-- outcome: error
return ("x"):match(("("):rep(200)) ~= nil
