"""A node that is not at its best: passes JSON-RPC over WebSocket on to a real one, with faults that a test sets.

Each line of standard input is a JSON object: the faults that hold from then on, instead of those before.

    chain_id: TEXT       what eth_chainId answers
    span_max: N          eth_getLogs over more blocks is refused
    busy: N              the next N eth_getLogs are refused as too many
    pruned_below: N      eth_getLogs from lower blocks is refused
    behind: N            it knows the chain only up to N blocks below the real tip
    half: N              the next N answers are cut in half
    mute_logs: true      logs are not pushed, heads are
    no_time: true        logs have no blockTimestamp
    removed: true        before a head that replaces blocks, their logs are pushed again as removed, twice, and one that
                         nobody has seen
    stall: true          nothing comes out any more, and the connection stays open
    hang_up: true        every connection is closed, once

What happens is told on standard output, one JSON object per line: the port, the faults that were set, each that struck.
"""

import asyncio
import json
import sys
import threading

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

SIZE_MAX = 64 << 20
faults = {}
clients = set()


def tell(**facts):
    print(json.dumps(facts), flush=True)


def strike(fault):
    """True if a fault holds; a counted one holds that many times."""
    left = faults.get(fault, 0)
    if not left:
        return False
    if left is not True:
        faults[fault] = left - 1
    tell(struck=fault)
    return True


def refuse(request, code, message):
    return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}


def refusal(request, tip):
    """The answer of a node that does not do what it is asked, or None."""
    method, params = request["method"], request.get("params") or []
    if method == "eth_chainId" and "chain_id" in faults:
        tell(struck="chain_id")
        return {"jsonrpc": "2.0", "id": request["id"], "result": faults["chain_id"]}
    if method != "eth_getLogs":
        return None
    first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
    if strike("busy"):
        return refuse(request, -32005, "daily request count exceeded, request rate limited")
    if "span_max" in faults and last - first >= faults["span_max"]:
        tell(struck="span_max")
        return refuse(request, -32005, "query returned more than 10000 results")
    if first < faults.get("pruned_below", 0):
        tell(struck="pruned_below")
        return refuse(request, 4444, "pruned history unavailable")
    if "behind" in faults and first > tip - faults["behind"]:
        tell(struck="behind")
        return {"jsonrpc": "2.0", "id": request["id"], "result": []}
    return None


def without_time(logs):
    for log in logs:
        log.pop("blockTimestamp", None)


class Connection:
    """One client and its connection to the real node."""

    def __init__(self, client, node):
        self.client, self.node = client, node
        self.asked, self.logs, self.tip = {}, [], 0

    async def send(self, message):
        text = message if isinstance(message, str) else json.dumps(message)
        if faults.get("stall"):
            tell(struck="stall")
            return
        await self.client.send(text)

    async def requests(self):
        async for text in self.client:
            request = json.loads(text)
            answer = refusal(request, self.tip)
            if answer is not None:
                await self.send(answer)
                continue
            self.asked[request["id"]] = request["method"]
            await self.node.send(text)

    async def answers(self):
        async for text in self.node:
            message = json.loads(text)
            if "method" in message:
                await self.push(message)
            else:
                await self.answer(message)

    async def answer(self, message):
        method = self.asked.pop(message["id"], None)
        result = message.get("result")
        if method == "eth_blockNumber":
            self.tip = int(result, 16)
            message["result"] = hex(self.tip - faults.get("behind", 0))
        if method == "eth_getLogs" and faults.get("no_time"):
            without_time(result)
            tell(struck="no_time")
        text = json.dumps(message)
        if strike("half"):
            text = text[: len(text) // 2]
        await self.send(text)

    async def push(self, message):
        result = message["params"]["result"]
        if "topics" in result:
            self.logs = [*self.logs[-999:], result]
            if faults.get("no_time"):
                without_time([result])
            if not strike("mute_logs"):
                await self.send(message)
            return
        number = int(result["number"], 16)
        if faults.get("removed") and number <= self.tip:
            await self.remove(number, message)
        self.tip = number
        await self.send(message)

    async def remove(self, number, head):
        """What geth and reth push before the head of another chain."""
        block = head["params"]["result"]["hash"]
        gone = [log for log in self.logs if int(log["blockNumber"], 16) >= number and log["blockHash"] != block]
        self.logs = [log for log in self.logs if log not in gone]
        unknown = [{**log, "transactionHash": "0x" + "77" * 32, "blockHash": "0x" + "88" * 32} for log in gone[:1]]
        for log in [*gone, *gone, *unknown]:
            params = {**head["params"], "result": {**log, "removed": True}}
            await self.send({**head, "params": params})
        if gone:
            tell(struck="removed")


async def serve_client(client, upstream):
    clients.add(client)
    try:
        async with connect(upstream, max_size=SIZE_MAX, proxy=None) as node:
            connection = Connection(client, node)
            both = [asyncio.ensure_future(way()) for way in (connection.requests, connection.answers)]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for way in both:
                way.cancel()
            await asyncio.gather(*both, return_exceptions=True)
    except ConnectionClosed:
        pass
    finally:
        clients.discard(client)


async def change(fresh):
    faults.clear()
    faults.update(fresh)
    if faults.pop("hang_up", False):
        for client in list(clients):
            await client.close()
    tell(set=fresh)


def listen(loop):
    for line in sys.stdin:
        asyncio.run_coroutine_threadsafe(change(json.loads(line)), loop)
    loop.call_soon_threadsafe(loop.stop)


async def main(upstream):
    async with serve(lambda client: serve_client(client, upstream), "127.0.0.1", 0, max_size=SIZE_MAX) as server:
        tell(port=server.sockets[0].getsockname()[1])
        threading.Thread(target=listen, args=(asyncio.get_running_loop(),), daemon=True).start()
        await asyncio.get_running_loop().create_future()


try:
    asyncio.run(main(sys.argv[1]))
except RuntimeError:
    pass
