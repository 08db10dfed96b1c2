-- More values than anybody formats.
-- outcome: error
return string.format(string.rep("%s", 100), table.unpack(table.create(100, "x"))) == ""
