-- More entries than may be sorted.
-- outcome: error
table.sort(table.create(50000, 1))
return false
