"""Verifies signatures with Standard Webhooks' own library: one JSON request per line in, one verdict per line out."""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    try:
        Webhook(request["secret"]).verify(request["body"], request["headers"])
        verdict = {"accepted": True}
    except WebhookVerificationError as error:
        verdict = {"accepted": False, "why": str(error)}
    print(json.dumps(verdict), flush=True)
