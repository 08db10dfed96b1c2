-- Writes into the agent.
-- outcome: error
a.score = 0
return false
