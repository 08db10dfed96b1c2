return rule {
  id = "night-drain", severity = "high", hold = "2m",
  about = "More than $50 in ten minutes between midnight and six, UTC.",
  when = function(p, a) return p.at:hour() < 6 and a:spent("10m") > usd(50) end,
  why = function(p, a) return `{a.id} spent {a:spent("10m")} in 10 minutes at night` end,
  tests = {
    { "fires after hold", clock = "2026-01-01T02:00Z", feed = spend("a1", usd(6), { every = "1m", times = 12 }), expect = { quiet_at("a1", "+9m"), firing("a1", "+12m") } },
    { "quiet by day", clock = "2026-01-01T12:00Z", feed = spend("a1", usd(6), { every = "1m", times = 12 }), expect = quiet },
  },
}
