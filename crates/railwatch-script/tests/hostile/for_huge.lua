-- A counted loop to infinity.
-- outcome: stopped
for i = 1, math.huge do end
