-- An error that is nothing.
-- outcome: error
error(nil)
