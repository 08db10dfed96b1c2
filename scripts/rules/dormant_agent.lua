return rule {
  id = "dormant-agent", severity = "medium",
  about = "An agent that was silent for 30 days spends again.",
  when = function(p, a)
    return p.kind == "settle" and a.previous_at ~= nil and p.at - a.previous_at > duration("30d")
  end,
  why = function(p, a) return `{a.id} spent {p.usd}, its first payment since {a.previous_at:date()}` end,
  tests = {
    { "wakes after 40 days", feed = { spend("a1", usd(5)), spend("a1", usd(5), { after = "40d" }) }, expect = firing("a1", "+40d") },
    { "weekly job", feed = spend("a1", usd(5), { every = "7d", times = 6 }), expect = quiet },
  },
}
