-- Many texts of 64 KB joined, and kept.
-- outcome: stopped
local piece, all = string.rep("x", 65000), {}
while true do
  local t = {}
  for i = 1, 100 do t[i] = piece end
  all[#all + 1] = table.concat(t)
end
