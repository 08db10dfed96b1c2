return rule {
  id = "price-jump", severity = "high", history = "30d",
  about = "A payee charges more than three times what it charged this agent at most in the last 30 days.",
  when = function(p, a, state)
    if p.kind ~= "settle" or p.payee == nil then return false end
    local key = string.sub(p.payee, 1, 60)
    local largest = state[key]
    if largest == nil or p.usd > largest then state[key] = p.usd end
    return largest ~= nil and p.usd > largest * 3 and p.usd >= usd(1)
  end,
  why = function(p, a) return `{p.payee} charged {a.id} {p.usd}, more than three times its highest price so far` end,
  tests = {
    { "five times the price", feed = { spend("a1", usd(2), { payee = "api", times = 10 }), spend("a1", usd(10), { payee = "api", after = "1h" }) }, expect = firing("a1", "+1h") },
    { "twice the price", feed = { spend("a1", usd(2), { payee = "api", times = 10 }), spend("a1", usd(4), { payee = "api", after = "1h" }) }, expect = quiet },
    { "another payee", feed = { spend("a1", usd(2), { payee = "api", times = 10 }), spend("a1", usd(10), { payee = "gpu", after = "1h" }) }, expect = quiet },
  },
}
