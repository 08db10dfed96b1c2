-- A hundred million results.
-- outcome: error
return select("#", table.unpack({}, 1, 1e8)) > 0
