return rule {
  id = "new-rail", severity = "medium",
  about = "An agent that paid before spends over a rail that it never used.",
  when = function(p, a) return p.kind == "settle" and a.previous_at ~= nil and a:is_new("rail", p.rail) end,
  why = function(p, a) return `{a.id} paid {p.usd} over {p.rail} for the first time` end,
  tests = {
    { "stripe, then x402", feed = { spend("a1", usd(3), { rail = "stripe", times = 5 }), spend("a1", usd(3), { rail = "x402", after = "1h" }) }, expect = { quiet_at("a1", "+59m"), firing("a1", "+1h") } },
    { "always stripe", feed = spend("a1", usd(3), { rail = "stripe", times = 5 }), expect = quiet },
  },
}
