return rule {
  id = "retry-storm", severity = "high", history = "5m",
  about = "The same payee gets the same amount again and again: a purchase is being retried.",
  when = function(p, a, state)
    if p.kind ~= "settle" or p.payee == nil then return (state.run or 0) >= 8 and a:count("5m") >= 8 end
    state.run = if state.payee == p.payee and state.usd == p.usd then state.run + 1 else 1
    state.payee, state.usd = p.payee, p.usd
    return state.run >= 8 and a:count("5m", "payee", p.payee) >= 8
  end,
  why = function(p, a, state) return `{a.id} paid {state.payee} the same {state.usd} {state.run} times in a row` end,
  tests = {
    { "nine at once", feed = spend("a1", usd(4), { payee = "shop", every = "5s", times = 9 }), expect = { quiet_at("a1", "+30s"), firing("a1", "+40s") } },
    { "a daily subscription", feed = spend("a1", usd(4), { payee = "shop", every = "24h", times = 9 }), expect = quiet },
    { "different amounts", feed = { spend("a1", usd(4), { payee = "shop", every = "10s", times = 7 }), spend("a1", usd(5), { payee = "shop", after = "75s", every = "10s", times = 5 }) }, expect = quiet },
  },
}
