return rule {
  id = "round-amount-probing", severity = "high",
  about = "Five whole-dollar payments in a row, each larger than the one before: somebody looks for a limit.",
  when = function(p, a, state)
    if p.kind ~= "settle" then return (state.run or 0) >= 5 and a:count("10m") >= 5 end
    local rising = state.last ~= nil and p.usd > state.last and p.usd:is_multiple_of(usd(1))
    state.run = if rising then (state.run or 1) + 1 else 1
    state.last = p.usd
    return state.run >= 5
  end,
  why = function(p, a, state) return `{a.id} made {state.run} rising round payments, the last of {state.last}` end,
  tests = {
    { "1, 2, 5, 10, 20", feed = { spend("a1", usd(1)), spend("a1", usd(2), { after = "1m" }), spend("a1", usd(5), { after = "2m" }), spend("a1", usd(10), { after = "3m" }), spend("a1", usd(20), { after = "4m" }) }, expect = { quiet_at("a1", "+3m"), firing("a1", "+4m") } },
    { "one price, or not round", feed = { spend("a1", usd(5), { times = 9 }), spend("a2", usd("1.10")), spend("a2", usd("2.20"), { after = "1m" }), spend("a2", usd("5.30"), { after = "2m" }), spend("a2", usd("9.90"), { after = "3m" }), spend("a2", usd("19.50"), { after = "4m" }) }, expect = quiet } } }
