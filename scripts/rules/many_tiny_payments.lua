return rule {
  id = "many-tiny-payments", severity = "medium", hold = "1m",
  about = "Two hundred payments in ten minutes, none above ten cents: a loop that no amount limit sees.",
  when = function(p, a) return a:count("10m") >= 200 and a:largest("10m") <= usd("0.10") end,
  why = function(p, a) return `{a.id} made {a:count("10m")} payments in 10 minutes, {a:spent("10m")} in all` end,
  tests = {
    { "a tight loop", feed = spend("a1", usd("0.01"), { every = "1s", times = 300 }), expect = firing("a1", "+5m") },
    { "a few", feed = spend("a1", usd("0.01"), { every = "10s", times = 60 }), expect = quiet },
    { "many, but not tiny", feed = spend("a1", usd(1), { every = "1s", times = 300 }), expect = quiet },
  },
}
