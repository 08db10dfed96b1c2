-- The strongest signal, and nothing else: easy to explain, blind to weak signals that agree.
local names = { "velocity", "rail_shift", "budget", "drift", "new_payee", "price", "duplicate", "dormant" }
local inputs = {}
for i, name in names do inputs[i] = name .. ".probability" end

return score {
  name = "max",
  inputs = inputs,
  parts = names,
  formula = function(v, r, b, d, n, p, u, q)
    local top = math.max(v, r, b, d, n, p, u, q)
    if v == top then return v, 0, 0, 0, 0, 0, 0, 0 end
    if r == top then return 0, r, 0, 0, 0, 0, 0, 0 end
    if b == top then return 0, 0, b, 0, 0, 0, 0, 0 end
    if d == top then return 0, 0, 0, d, 0, 0, 0, 0 end
    if n == top then return 0, 0, 0, 0, n, 0, 0, 0 end
    if p == top then return 0, 0, 0, 0, 0, p, 0, 0 end
    if u == top then return 0, 0, 0, 0, 0, 0, u, 0 end
    return 0, 0, 0, 0, 0, 0, 0, q
  end,
  tests = {
    { "nothing", signals = {}, expect = 0 },
    { "the strongest", signals = { velocity = { probability = 0.4 }, price = { probability = 0.8 } }, expect = { price = 0.8, velocity = 0 } },
    { "a tie counts once", signals = { velocity = { probability = 0.6 }, budget = { probability = 0.6 } }, expect = 0.6 },
  },
}
