-- Every signal on its own: 1 - (1 - p1)(1 - p2)…; signals of one cause count as often as they appear.
local names = { "velocity", "rail_shift", "budget", "drift", "new_payee", "price", "duplicate", "dormant" }
local inputs = {}
for i, name in names do inputs[i] = name .. ".probability" end

local function nats(p) return -math.log(1 - math.clamp(p, 0, 0.999999)) end

return score {
  name = "noisy-or",
  inputs = inputs,
  parts = names,
  formula = function(v, r, b, d, n, p, u, q)
    v, r, b, d = nats(v), nats(r), nats(b), nats(d)
    n, p, u, q = nats(n), nats(p), nats(u), nats(q)
    local sum = v + r + b + d + n + p + u + q
    local k = if sum > 0 then (1 - math.exp(-sum)) / sum else 0
    return v * k, r * k, b * k, d * k, n * k, p * k, u * k, q * k
  end,
  tests = {
    { "nothing", signals = {}, expect = 0 },
    { "one", signals = { budget = { probability = 0.7 } }, expect = { budget = 0.7 } },
    { "two halves make three quarters", signals = { velocity = { probability = 0.5 }, drift = { probability = 0.5 } }, expect = 0.75 },
  },
}
