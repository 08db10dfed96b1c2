-- The founding formula, verbatim. It knows no evidence: a 40x spike alone scores 0.4 and never reaches review.
local min = math.min

return score {
  name = "founding",
  inputs = { "velocity.ratio", "rail_shift.jsd", "budget.ratio" },
  parts = { "velocity", "rail_shift", "budget" },
  formula = function(velocity_ratio, rail_shift, burn_acceleration)
    return 0.4*min(velocity_ratio/5,1), 0.3*rail_shift, 0.3*min(burn_acceleration,1)
  end,
  tests = {
    { "nothing", signals = {}, expect = 0 },
    { "a spike alone", signals = { velocity = { value = 320, usual = 8 } }, expect = 0.4 },
    { "half of everything", signals = { velocity = { value = 20, usual = 8 }, rail_shift = { jsd = 0.5 }, budget = { value = 1, usual = 2 } }, expect = { velocity = 0.2, rail_shift = 0.15, budget = 0.15 } },
    { "all of it", signals = { velocity = { value = 80, usual = 8 }, rail_shift = { jsd = 1 }, budget = { value = 6, usual = 2 } }, expect = 1 },
  },
}
