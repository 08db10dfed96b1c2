-- Reads the clock.
-- outcome: error
return os.clock() > 0
