return rule {
  id = "unattributed-spender", severity = "medium",
  about = "More than $20 in an hour from a wallet, card or account that no agent claims.",
  when = function(p, a) return a.unmapped and a:spent("1h") > usd(20) end,
  why = function(p, a) return `{a.id} spent {a:spent("1h")} in an hour and belongs to no agent; map it in [agents.match]` end,
  tests = {
    { "a strange wallet", feed = spend("unmapped:evm.address:0xabc", usd(5), { times = 6, via = "unmapped" }), expect = firing("unmapped:evm.address:0xabc", "+5m") },
    { "a known agent", feed = spend("a1", usd(5), { times = 6 }), expect = quiet },
    { "small change", feed = spend("unmapped:evm.address:0xabc", usd(1), { times = 6, via = "unmapped" }), expect = quiet },
  },
}
