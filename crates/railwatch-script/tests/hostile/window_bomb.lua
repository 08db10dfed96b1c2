-- A window of two thousand years.
-- outcome: error
return a:spent("99999w") > usd(0)
