"""A payment gate: plays a JSON lines file over WebSocket, frame by frame, and goes on as the file grows.

A client resumes with `?since=N`: it gets the lines behind line N (the payments' own `seq`). What happens is told on
standard output, one JSON object per line: the port, every connection with its `since`, and how far was sent.

A line {"$frame": …} sends a frame that is not a payment, see `special` in tests/src/gate.rs. It is sent once, to whoever
is connected first: a frame that breaks the connection would otherwise break every later one.
"""

import argparse
import asyncio
import base64
import json
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

LOOK_EVERY_SECS = 0.02


def tell(**facts):
    print(json.dumps(facts), flush=True)


async def lines_from(path, start):
    """Yields lists of whole lines behind line `start`, forever."""
    with open(path, "rb") as file:
        number, rest = 0, b""
        while True:
            chunk = file.read(1 << 20)
            if not chunk:
                await asyncio.sleep(LOOK_EVERY_SECS)
                continue
            *lines, rest = (rest + chunk).split(b"\n")
            fresh = lines[max(0, start - number):]
            number += len(lines)
            if fresh:
                yield number, [line.decode() for line in fresh if line]


def frames(lines, per_frame, played):
    """Groups payments into frames; a special line is a frame of its own."""
    group = []
    for line in lines:
        if line.startswith('{"$frame"'):
            if group:
                yield group
            if line not in played:
                played.add(line)
                yield json.loads(line)["$frame"]
            group = []
        else:
            group.append(line)
            if len(group) >= per_frame:
                yield group
                group = []
    if group:
        yield group


async def send(socket, frame, per_frame):
    if isinstance(frame, list):
        await socket.send(frame[0] if per_frame == 1 else "[" + ",".join(frame) + "]")
    elif "filler_len" in frame:
        await socket.send("x" * frame["filler_len"])
    elif "broken_text_base64" in frame:
        await socket.send(base64.b64decode(frame["broken_text_base64"]), text=True)
    elif "binary_base64" in frame:
        await socket.send(base64.b64decode(frame["binary_base64"]))
    else:
        await socket.send(frame["text"])


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--per-frame", type=int, default=1)
    parser.add_argument("--drop-after", type=int, default=0)
    args = parser.parse_args()
    n_connections, played = 0, set()

    async def play(socket):
        nonlocal n_connections
        n_connections += 1
        mine = n_connections
        query = parse_qs(urlsplit(socket.request.path).query)
        since = query.get("since", [None])[0]
        tell(connection=n_connections, since=since)
        n_frames = 0
        try:
            async for number, lines in lines_from(args.path, int(since or 0)):
                if mine != n_connections:
                    return  # the client has left this connection for a newer one
                for frame in frames(lines, args.per_frame, played):
                    await send(socket, frame, args.per_frame)
                    n_frames += 1
                    if n_frames == args.drop_after:
                        socket.transport.abort()
                        return
                tell(sent=number)
        except ConnectionClosed:
            pass

    async with serve(play, "127.0.0.1", 0, compression=None, max_size=None) as server:
        tell(port=server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
