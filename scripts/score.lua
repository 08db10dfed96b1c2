-- The default score, as it is built in: the probabilities of independent groups of signals, combined by
-- 1 - prod(1 - p). Signals that see one thing from several sides count once, by the strongest of them. Never below the
-- founding sum of those of its inputs that have evidence behind them.
local log, max, min = math.log, math.max, math.min

return score {
  name = "default",
  inputs = {
    "velocity.probability", "drift.probability", "dormant.probability", "duplicate.probability",
    "rail_shift.probability", "new_rail.probability", "new_payee.probability", "budget.probability", "price.probability",
    "velocity.raised", "velocity.ratio", "rail_shift.raised", "rail_shift.dominant", "rail_shift.value",
    "budget.raised", "budget.burn_acceleration",
  },
  parts = { "velocity", "rail_shift", "budget", "price" },
  formula = function(velocity, drift, dormant, duplicate, shift, rail, payee, burn, price, hot, ratio, moved, dominant, share, burning, acceleration)
    -- Each part gets its share of the logarithm, so that the parts add up.
    local v = -log(1 - min(max(velocity, drift, dormant, duplicate, 0), 0.9999))
    local r = -log(1 - min(max(shift, rail, payee, 0), 0.9999))
    local b = -log(1 - min(max(burn, 0), 0.9999))
    local p = -log(1 - min(max(price, 0), 0.9999))
    local sum = v + r + b + p
    local total = 1 - math.exp(-sum)
    local v0 = 0.4 * hot * min(ratio / 5, 1)
    local r0 = 0.3 * moved * dominant * min(share, 1)
    local b0 = 0.3 * burning * max(min(acceleration, 1), 0)
    if v0 + r0 + b0 > total then return v0, r0, b0, 0 end
    local k = if sum > 0 then total / sum else 0
    return v * k, r * k, b * k, p * k
  end,
  tests = {
    { "nothing", signals = {}, expect = 0 },
    { "one certain signal reaches review alone", signals = { velocity = { value = 340, usual = 8, probability = 0.95, firing = true } }, expect = 0.95 },
    { "two halves", signals = { velocity = { probability = 0.5 }, rail_shift = { probability = 0.5 } }, expect = { velocity = 0.375, rail_shift = 0.375 } },
    { "one cause counts once", signals = { velocity = { probability = 0.6 }, drift = { probability = 0.6 } }, expect = 0.6 },
    { "never below the founding sum", signals = { velocity = { value = 50, usual = 8, probability = 0.5, firing = true }, rail_shift = { value = 1, dominant = 1, firing = true }, budget = { burn_acceleration = 2, firing = true } }, expect = 1 },
    { "a ratio without evidence is nothing", signals = { velocity = { value = 340, usual = 8, probability = 0.01 } }, expect = 0.01 },
  },
}
