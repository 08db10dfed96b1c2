return rule {
  id = "failed-payment-storm", severity = "high",
  about = "Ten declined attempts in ten minutes, and more of them than payments: card testing, or an empty wallet.",
  when = function(p, a) return a:declined("10m") >= 10 and a:declined("10m") > a:count("10m") end,
  why = function(p, a) return `{a:declined("10m")} payments of {a.id} were declined in 10 minutes, {a:count("10m")} went through` end,
  tests = {
    { "declined again and again", feed = declined("a1", usd(9), { every = "20s", times = 12 }), expect = { quiet_at("a1", "+2m"), firing("a1", "+4m"), resolved("a1", "+40m") } },
    { "mostly fine", feed = { spend("a1", usd(9), { every = "20s", times = 24 }), declined("a1", usd(9), { every = "40s", times = 12 }) }, expect = quiet },
  },
}
