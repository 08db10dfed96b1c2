-- Looks for addresses, which differ from run to run.
-- outcome: false
return string.find(tostring({}) .. tostring(print) .. `{ {} }` .. string.format("%s", tostring(function() end)), "0x") ~= nil
