-- LNbits: a payment as its webhook and its list report it. Amounts are in millisatoshi; negative ones are outgoing.
local STATUS = { success = "settle", failed = "declined", pending = "hold" }

return rail {
  name = "lightning",
  decode = function(msg)
    local b = msg.json.payment or msg.json
    if b.amount > 0 then return nil, "incoming" end
    local extra = b.extra or {}
    return {
      id = b.payment_hash, at = b.time, amount = money(-b.amount, "msat"), kind = STATUS[b.status],
      agent = extra.agent_id, task = extra.task, resource = b.memo, payee = extra.payee,
      spender = { { "lnbits.wallet", b.wallet_id } }, refs = { { "payment_hash", b.payment_hash } },
    }
  end,
  tests = {
    { "paid", input = '{"wallet_balance":1000,"payment":{"payment_hash":"ab12","amount":-210000,"fee":-1000,"time":1767225600,"status":"success","memo":"joke","wallet_id":"w1","preimage":"00ff","extra":{"agent_id":"a1"}}}',
      expect = { id = "ab12", amount = "0.00000210000 BTC", kind = "settle", agent = "a1", spender = "agent:a1 lnbits.wallet:w1", refs = "ab12", at = "2026-01-01T00:00:00Z" } },
    { "received", input = '{"payment_hash":"cd34","amount":21000,"time":1767225600,"status":"success"}', expect = filtered },
    { "failed", input = '{"payment_hash":"ef56","amount":-21000,"time":"2026-01-01T00:00:00+00:00","status":"failed"}', expect = { kind = "declined" } },
  },
}
