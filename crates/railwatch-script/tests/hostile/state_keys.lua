-- More notes than the quota.
-- outcome: error
for i = 1, 1000 do state["key" .. i] = i end
return false
