return rule {
  id = "price-jump", severity = "high",
  about = "A payee charges more than three times its highest price to this agent so far.",
  when = function(p, a, state)
    if p.kind ~= "settle" or p.payee == nil then return false end
    local key = string.sub(p.payee, 1, 60)
    local highest = state[key] or p.usd
    state[key] = if p.usd > highest then p.usd else highest
    return p.usd > highest * 3 and p.usd >= usd(1)
  end,
  why = function(p, a) return `{p.payee} charged {a.id} {p.usd}, more than three times its highest price so far` end,
  tests = {
    { "five times the price", feed = { spend("a1", usd(2), { payee = "api", times = 10 }), spend("a1", usd(10), { payee = "api", after = "1h" }) }, expect = { quiet_at("a1", "+59m"), firing("a1", "+1h") } },
    { "twice the price, another payee", feed = { spend("a1", usd(2), { payee = "api", times = 10 }), spend("a1", usd(4), { payee = "api", after = "1h" }), spend("a1", usd(50), { payee = "gpu", after = "2h" }) }, expect = quiet } } }
