-- The default score: how likely it is that something is wrong, from signals that are independent of each other.
-- Signals of one cause (a burst and a drift of the same spending) count once, by the stronger of them.
local log, max, min = math.log, math.max, math.min

local function nats(p) return -log(1 - min(max(p, 0), 0.999999)) end

return score {
  name = "default",
  inputs = {
    "velocity.probability", "drift.probability", "rail_shift.probability", "new_rail.probability", "budget.probability",
    "new_payee.probability", "price.probability", "duplicate.probability", "dormant.probability",
    "velocity.ratio", "rail_shift.jsd", "budget.ratio",
  },
  parts = { "velocity", "rail_shift", "budget", "payee", "duplicate", "dormant" },
  formula = function(velocity, drift, shift, rail, burn, payee, price, duplicate, dormant, ratio, jsd, burn_ratio)
    -- 1 - prod(1 - p) over the groups; each part gets its share of the logarithm, so that the parts add up.
    local v, r, b = nats(max(velocity, drift)), nats(max(shift, rail)), nats(burn)
    local n, d, q = nats(max(payee, price)), nats(duplicate), nats(dormant)
    local sum = v + r + b + n + d + q
    if sum <= 0 then return 0, 0, 0, 0, 0, 0 end
    local total = 1 - math.exp(-sum)
    -- Never below the founding sum of those of its inputs that have evidence behind them.
    local v0 = if velocity >= 0.5 then 0.4 * min(ratio / 5, 1) else 0
    local r0 = if shift >= 0.5 then 0.3 * jsd else 0
    local b0 = if burn >= 0.5 then 0.3 * min(burn_ratio, 1) else 0
    if v0 + r0 + b0 > total then return v0, r0, b0, 0, 0, 0 end
    local share = total / sum
    return v * share, r * share, b * share, n * share, d * share, q * share
  end,
  tests = {
    { "nothing", signals = {}, expect = 0 },
    { "one certain signal reaches review alone", signals = { velocity = { value = 340, usual = 8, probability = 0.95 } }, expect = 0.95 },
    { "two halves", signals = { velocity = { probability = 0.5 }, rail_shift = { probability = 0.5 } }, expect = { velocity = 0.375, rail_shift = 0.375 } },
    { "one cause counts once", signals = { velocity = { probability = 0.6 }, drift = { probability = 0.6 } }, expect = 0.6 },
    { "never below the founding sum", signals = { velocity = { value = 50, usual = 8, probability = 0.5 }, rail_shift = { probability = 0.5, jsd = 1 }, budget = { value = 9, usual = 3, probability = 0.5 } }, expect = 1 },
    { "a ratio without evidence is nothing", signals = { velocity = { value = 340, usual = 8, probability = 0.01 } }, expect = 0.01 },
  },
}
