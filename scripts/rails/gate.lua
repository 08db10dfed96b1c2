-- A payment gate's own event stream: one JSON object per message, amounts as decimal texts.
return rail {
  name = "gate",
  decode = function(msg)
    local b = msg.json
    if b.type == "heartbeat" then return nil, "heartbeat" end
    return {
      id = b.id, at = b.timestamp, agent = b.agent_id, rail = b.rail, payee = b.payee or b.recipient, task = b.task_id,
      resource = b.resource, amount = decimal(b.amount, b.currency or "USD"), labels = b.labels,
      kind = if b.status == "failed" or b.status == "declined" then "declined" else "settle",
    }
  end,
  tests = {
    { "settled", input = fixture "gate_ok.json", expect = { id = "pay_1", agent = "agent_billing_7", rail = "x402", payee = "api.example.com", amount = "12.340000 USDC@base", kind = "settle", at = "2026-01-01T02:00:00Z" } },
    { "declined", input = '{"id":"pay_2","timestamp":1767232800,"agent_id":"a1","rail":"stripe","amount":"5.00","status":"declined"}', expect = { kind = "declined", amount = "5.00 USD" } },
    { "heartbeat", input = '{"type":"heartbeat"}', expect = filtered },
    { "a currency that nobody knows", input = '{"id":"pay_3","timestamp":1767232800,"amount":"5","currency":"DOGECASH"}', expect = rejected },
  },
}
