return rule {
  id = "recipient-concentration", severity = "high",
  about = "One payee gets 90 % of at least $100 in an hour, though the agent pays three or more payees in a day.",
  when = function(p, a)
    local spent = a:spent("1h")
    return p.payee ~= nil and spent >= usd(100) and a:spent("1h", "payee", p.payee) / spent > 0.9
      and a:distinct("24h", "payee") >= 3
  end,
  why = function(p, a) return `{p.payee} got {a:spent("1h", "payee", p.payee)} of the {a:spent("1h")} that {a.id} spent in an hour` end,
  tests = {
    { "all to one", feed = { spend("a1", usd(1), { payee = "x" }), spend("a1", usd(1), { payee = "y" }), spend("a1", usd(20), { payee = "z", after = "2h", times = 6 }) }, expect = firing("a1", "+125m") },
    { "well spread", feed = { spend("a1", usd(20), { payee = "x", times = 4 }), spend("a1", usd(20), { payee = "y", times = 4 }), spend("a1", usd(20), { payee = "z", times = 4 }) }, expect = quiet },
    { "an agent with one payee", feed = spend("a1", usd(20), { payee = "z", times = 9 }), expect = quiet },
  },
}
