-- A table for a billion entries.
-- outcome: error
return #table.create(1e9, 0) > 0
