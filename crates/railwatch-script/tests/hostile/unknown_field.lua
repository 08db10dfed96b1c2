-- A field that does not exist is not silently nil.
-- outcome: error
return p.ammount == nil
