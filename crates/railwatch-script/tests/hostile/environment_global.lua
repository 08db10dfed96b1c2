-- Makes a global of its own, a place to hide state.
-- outcome: error
counter = 1
return false
