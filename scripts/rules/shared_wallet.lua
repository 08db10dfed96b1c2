return rule {
  id = "shared-wallet", severity = "medium",
  about = "Payments of one agent are attributed in different ways within an hour: two programs share its wallet or key.",
  when = function(p, a, state)
    if p.kind ~= "settle" or p.via == nil then return false end
    local before, at = state.via, state.at
    state.via, state.at = p.via, p.at
    return before ~= nil and before ~= p.via and p.at - at < duration("1h")
  end,
  why = function(p, a) return `{a.id} was identified as {p.via} just after it was identified otherwise; does something else use its wallet?` end,
  tests = {
    { "named, then only by wallet", feed = { spend("a1", usd(2), { via = "explicit" }), spend("a1", usd(2), { via = "mapped", after = "5m" }) }, expect = firing("a1", "+5m") },
    { "always by wallet", feed = spend("a1", usd(2), { via = "mapped", times = 5 }), expect = quiet },
  },
}
