-- An error message of 64 KB.
-- outcome: error
error(string.rep("x", 65000))
