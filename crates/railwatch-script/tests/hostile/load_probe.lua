-- Compiles text at run time.
-- outcome: error
return loadstring("return true")()
