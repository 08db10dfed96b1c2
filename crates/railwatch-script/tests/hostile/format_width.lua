-- A field of a million characters.
-- outcome: error
return #string.format("%1000000d", 1) > 0
