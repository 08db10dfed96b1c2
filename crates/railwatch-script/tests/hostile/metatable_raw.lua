-- Writes into the payment behind its back.
-- outcome: error
rawset(p, "usd", usd(0))
return false
