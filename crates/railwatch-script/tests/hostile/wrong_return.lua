-- A condition that is a text.
-- outcome: error
return "yes"
