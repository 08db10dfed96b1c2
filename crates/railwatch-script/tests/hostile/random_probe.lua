-- Draws a random number.
-- outcome: error
return math.random() > 0.5
