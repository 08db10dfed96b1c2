-- What it may cost, not only how likely it is: probability times a weight that grows with the dollars in the payment,
-- from a quarter at one cent to one at $1,000. A certain loss of twelve cents should not wake anybody.
return score {
  name = "money-at-risk",
  inputs = { "velocity.probability", "rail_shift.probability", "budget.probability", "payment.usd" },
  parts = { "velocity", "rail_shift", "budget" },
  formula = function(velocity, rail_shift, budget, usd)
    local weight = math.clamp(0.25 + 0.75 * math.log10(1 + math.max(usd, 0)) / 3, 0.25, 1)
    local rest = 1 - velocity
    return weight * velocity, weight * rest * rail_shift, weight * rest * (1 - rail_shift) * budget
  end,
  tests = {
    { "nothing", signals = {}, expect = 0 },
    { "certain and worthless", signals = { velocity = { probability = 1 } }, expect = 0.25 },
    { "certain and dear", signals = { velocity = { probability = 1 } }, payment = usd(5000), expect = 1 },
    { "half, at $9", signals = { velocity = { probability = 0.5 } }, payment = usd(9), expect = 0.25 },
  },
}
