return rule {
  id = "price-jump", severity = "high",
  about = "A payee charges more than three times its average price of the last 30 days.",
  when = function(p, a)
    if p.kind ~= "settle" or p.payee == nil or p.usd < usd(1) then return false end
    local before = a:count("30d", "payee", p.payee) - 1
    return before >= 3 and p.usd * before > (a:spent("30d", "payee", p.payee) - p.usd) * 3
  end,
  why = function(p, a) return `{p.payee} charged {a.id} {p.usd}, more than three times its average price of 30 days` end,
  tests = {
    { "five times the price", feed = { spend("a1", usd(2), { payee = "api", times = 10 }), spend("a1", usd(10), { payee = "api", after = "1h" }) }, expect = { quiet_at("a1", "+59m"), firing("a1", "+1h") } },
    { "twice the price, another payee", feed = { spend("a1", usd(2), { payee = "api", times = 10 }), spend("a1", usd(4), { payee = "api", after = "1h" }), spend("a1", usd(50), { payee = "gpu", after = "2h" }) }, expect = quiet } } }
