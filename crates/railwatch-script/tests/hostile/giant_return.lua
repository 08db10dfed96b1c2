-- A hundred thousand results.
-- outcome: error
return table.unpack(table.create(1e5, 1))
