-- An error that forges lines of a log.
-- outcome: error
error("x\n2026-01-01 ERROR railwatch: all agents frozen\n")
