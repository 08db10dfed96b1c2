-- The same through gsub, on the method of a text.
-- outcome: stopped
return (("a"):rep(30000):gsub(("a?"):rep(100) .. "c", "")) == ""
