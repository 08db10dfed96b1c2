-- An iterator that never ends.
-- outcome: stopped
for _ in function() return 1 end do end
