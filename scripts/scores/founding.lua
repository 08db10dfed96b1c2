-- The founding formula, verbatim. It knows no evidence: a 40x spike alone scores 0.4 and never reaches review.
local min = math.min

return score {
  name = "founding",
  inputs = { "velocity.ratio", "rail_shift.value", "rail_shift.dominant", "budget.burn_acceleration" },
  parts = { "velocity", "rail_shift", "budget" },
  formula = function(velocity_ratio, share, dominant, burn_acceleration)
    local rail_shift = share * dominant
    return 0.4*min(velocity_ratio/5,1), 0.3*rail_shift, 0.3*min(burn_acceleration,1)
  end,
  tests = {
    { "nothing", signals = {}, expect = 0 },
    { "a spike alone", signals = { velocity = { value = 320, usual = 8 } }, expect = 0.4 },
    { "half of everything", signals = { velocity = { value = 20, usual = 8 }, rail_shift = { value = 0.5, dominant = 1 }, budget = { burn_acceleration = 0.5 } }, expect = { velocity = 0.2, rail_shift = 0.15, budget = 0.15 } },
    { "all of it", signals = { velocity = { value = 80, usual = 8 }, rail_shift = { value = 1, dominant = 1 }, budget = { burn_acceleration = 3 } }, expect = 1 },
  },
}
