"""What Stripe's own library says of signatures: reads a JSON list of {payload, header, secret}, prints a list of booleans."""

import json
import sys

import stripe


def is_believed(case):
    try:
        return bool(stripe.WebhookSignature.verify_header(case["payload"], case["header"], case["secret"], 300))
    except stripe.SignatureVerificationError:
        return False


print(json.dumps([is_believed(case) for case in json.load(sys.stdin)]))
