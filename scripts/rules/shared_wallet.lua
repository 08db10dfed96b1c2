return rule {
  id = "shared-wallet", severity = "medium",
  about = "One source names the agent on some payments and knows others of the same hour by wallet or key only: two programs share it.",
  when = function(p, a, state)
    if p.kind ~= "settle" or p.via == nil then return false end
    local via, at, source = state.via, state.at, state.source
    state.via, state.at, state.source = p.via, p.at, string.sub(p.source, 1, 100)
    return source == state.source and via ~= p.via and p.at - at < duration("1h")
  end,
  why = function(p, a) return `{a.id} was identified as {p.via} just after it was identified otherwise; does something else use its wallet?` end,
  tests = {
    { "named, then only by wallet", feed = { spend("a1", usd(2), { via = "explicit" }), spend("a1", usd(2), { via = "mapped", after = "5m" }) }, expect = firing("a1", "+5m") },
    { "always by wallet, or by two sources", feed = { spend("a1", usd(2), { via = "mapped", times = 5 }), spend("a2", usd(2), { via = "explicit", source = "gate" }), spend("a2", usd(2), { via = "mapped", source = "chain", after = "1m" }) }, expect = quiet } } }
