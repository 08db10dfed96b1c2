-- The same through an iterator.
-- outcome: stopped
for m in ("a"):rep(30000):gmatch(("a-"):rep(80) .. "b") do end
