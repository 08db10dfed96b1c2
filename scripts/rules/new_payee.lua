return rule {
  id = "new-payee", severity = "medium",
  about = "A known agent pays $25 or more to somebody whom it never paid before.",
  when = function(p, a)
    return p.kind == "settle" and p.usd >= usd(25) and a:is_new("payee", p.payee) and a.previous_at ~= nil
  end,
  why = function(p, a) return `{a.id} paid {p.usd} to {p.payee} for the first time` end,
  tests = {
    { "a stranger", feed = { spend("a1", usd(1), { payee = "shop" }), spend("a1", usd(30), { payee = "eve", after = "5m" }) }, expect = firing("a1", "+5m") },
    { "known, or small", feed = { spend("a1", usd(1), { payee = "shop" }), spend("a1", usd(30), { payee = "shop", after = "5m" }), spend("a1", usd(2), { payee = "eve", after = "6m" }) }, expect = quiet },
    { "first payment ever", feed = spend("a1", usd(30), { payee = "shop" }), expect = quiet },
  },
}
