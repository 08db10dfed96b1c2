return rule {
  id = "retry-storm", severity = "high",
  about = "The same payee gets the same amount eight times in a row within five minutes: a purchase is being retried.",
  when = function(p, a, state)
    if p.kind ~= "settle" then return (state.run or 0) >= 8 and a:count("5m") >= 8 end
    local payee = string.sub(p.payee or "", 1, 100)
    state.run = if state.payee == payee and state.usd == p.usd then state.run + 1 else 1
    state.payee, state.usd = payee, p.usd
    return state.run >= 8 and a:count("5m", "payee", p.payee) >= 8
  end,
  why = function(p, a, state) return `{a.id} paid {state.payee} the same {state.usd} {state.run} times in a row` end,
  tests = {
    { "nine at once", feed = spend("a1", usd(4), { payee = "shop", every = "5s", times = 9 }), expect = { quiet_at("a1", "+30s"), firing("a1", "+40s"), resolved("a1", "+30m") } },
    { "daily, or not the same", feed = { spend("a1", usd(4), { payee = "shop", every = "24h", times = 9 }), spend("a2", usd(4), { payee = "shop", every = "10s", times = 7 }), spend("a2", usd(5), { payee = "shop", after = "75s", every = "10s", times = 5 }) }, expect = quiet } } }
