-- An amount with an absurd exponent.
-- outcome: error
return decimal("1e999999999", "EUR") > decimal("1", "EUR")
