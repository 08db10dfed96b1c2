-- LiteLLM's `generic_api` callback: one StandardLoggingPayload, or a list of them.
local function one(b)
  local meta = b.metadata or {}
  local agent
  for _, tag in b.request_tags or {} do agent = agent or string.match(tag, "^agent:(.+)$") end
  return {
    id = b.id, at = b.endTime, agent = agent, session = b.trace_id, resource = b.model, payee = b.api_base,
    kind = if b.status == "success" then "settle" else "declined", amount = decimal(b.response_cost, "USD"),
    spender = { { "litellm.key_alias", meta.user_api_key_alias }, { "litellm.team", meta.user_api_key_team_id } },
  }
end

return rail {
  name = "litellm",
  decode = function(msg)
    local body = msg.json
    if type(body) ~= "table" then error("not a LiteLLM callback: " .. (msg.json_error or "no object")) end
    local list = if body.id then { body } else body
    local payments = {}
    for _, b in list do
      -- A cached answer costs nothing.
      if b.status ~= "success" or b.response_cost ~= 0 then table.insert(payments, one(b)) end
    end
    return payments
  end,
  tests = {
    { "a batch", input = fixture "litellm.generic_api.json", expect = {
      { id = "chatcmpl-1", kind = "settle", amount = "0.002130000 USD", agent = "research-7", session = "tr-1", at = "2026-11-23T12:30:01.500Z" },
      { id = "chatcmpl-2", kind = "declined", amount = "0.00 USD", agent = "nil", spender = "litellm.key_alias:research-7" },
    } },
    { "from the cache", input = '{"id":"c-3","status":"success","response_cost":0,"endTime":1795437001.5}', expect = filtered },
    { "not JSON", input = "hello", expect = rejected },
  },
}
