"""A mail server: the maintained `aiosmtpd`, which says what it took as one JSON line per mail."""

import email
import email.policy
import json
import socket
import sys

from aiosmtpd.controller import Controller


def say(value):
    print(json.dumps(value), flush=True)


class Inbox:
    """Takes every mail; refuses the first ones as busy if it is told to."""

    def __init__(self, busy):
        self.busy = busy

    async def handle_DATA(self, server, session, envelope):
        if self.busy > 0:
            self.busy -= 1
            say({"refused": True})
            return "451 try again later"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        say({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "defects": [str(defect) for defect in mail.defects],
            "parts": parts,
        })
        return "250 OK"


# The controller connects to itself by the port that it was given, so that it must be a real one.
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
controller = Controller(Inbox(int(sys.argv[1])), hostname="127.0.0.1", port=port)
controller.start()
say({"port": port})
sys.stdin.read()
