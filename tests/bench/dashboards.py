"""Open dashboards beside a busy fleet: what they cost the daemon, and how fast the API answers meanwhile.

Usage: dashboards.py RAILWATCH [--agents 400000] [--rate 5000] [--streams 50] [--seconds 30]

Every agent pays once; then RATE payments a second are written to the daemon's standard input, first with nobody looking,
then with STREAMS live streams open, of which every tenth reads nothing. The streams are read by a process of their own,
so that reading them delays no question. Prints one JSON document: the daemon's share of one processor, by thread and in
all; quantiles of each endpoint in milliseconds, beside what one sync of the same disk costs; and what looking changes.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

# The goal for the verdict's p99, in milliseconds.
VERDICT_GOAL_MS = 5.0
SYNCS = 200

CONFIG = """
[http]
listen = "127.0.0.1:{port}"
[store]
path = "railwatch.db"
[sources.stdin]
plugin = "stdin"
currency = "USD"
"""


class Daemon:
    def __init__(self, program, folder, port):
        self.port = port
        config = pathlib.Path(folder, "railwatch.toml")
        config.write_text(CONFIG.format(port=port))
        command = [program, "--config", str(config), "run", "--log", "warn"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder)
        self.n = 0

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read()

    def pay(self, agents):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lines = []
        for agent in agents:
            self.n += 1
            payment = {"id": f"b-{self.n}", "agent": f"agent_{agent}", "amount": "0.25", "at": at, "rail": "x402"}
            lines.append(json.dumps(payment))
        self.process.stdin.write(("\n".join(lines) + "\n").encode())
        self.process.stdin.flush()

    def metric(self, name):
        for line in self.get("/metrics").decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return 0.0

    def seconds(self):
        """Processor seconds of each thread, summed by its name."""
        sums = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            stat = (task / "stat").read_text()
            name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
            sums[name] = sums.get(name, 0) + (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")
        return sums


async def stream(port, reads, told):
    """One dashboard; a slow one lets the answer pile up and reads it at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    writer.write(f"GET /v1/live HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode())
    try:
        while True:
            if not reads:
                await asyncio.sleep(3600)
            line = await reader.readline()
            if line.startswith(b"event: "):
                told[line.strip().decode()] = told.get(line.strip().decode(), 0) + 1
    finally:
        writer.close()


async def follow(port, streams):
    """Reads streams until it is told to stop, then says how many events came."""
    told = {}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tasks = [asyncio.create_task(stream(port, at % 10 != 9, told)) for at in range(streams)]
    print("following", flush=True)
    await stop.wait()
    for task in tasks:
        task.cancel()
    print(json.dumps(told))


class Followers:
    """The process that reads the streams."""

    def __init__(self, port, streams):
        command = [sys.executable, __file__, "--follow", str(port), str(streams)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout.readline().strip() == b"following"

    def end(self):
        self.process.terminate()
        return json.loads(self.process.communicate()[0])


def quantiles(values):
    ordered = sorted(values)
    at = lambda q: round(ordered[int(q * (len(ordered) - 1))], 2)
    return {"p50": at(0.5), "p99": at(0.99), "n": len(ordered)}


def syncs(folder):
    """What one sync of this disk costs after a small write, in milliseconds."""
    times = []
    with open(pathlib.Path(folder, "sync.probe"), "wb", buffering=0) as probe:
        for _ in range(SYNCS):
            probe.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(probe.fileno())
            times.append(1000 * (time.perf_counter() - began))
    return quantiles(times)


async def ask(port, path, times):
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read(-1)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
    times.append(1000 * (time.perf_counter() - began))


async def measure(daemon, args, streams):
    times = {name: [] for name in ("verdict", "agents", "fleet", "alerts", "agent")}
    followers = Followers(daemon.port, streams)
    await asyncio.sleep(1)
    before, applied, began = daemon.seconds(), daemon.metric("railwatch_payments_applied_total"), time.time()
    ticks = 0
    while time.time() - began < args.seconds:
        daemon.pay(random.randrange(args.agents) for _ in range(args.rate // 20))
        agent = random.randrange(args.agents)
        await ask(daemon.port, f"/v1/agents/agent_{agent}/verdict", times["verdict"])
        if ticks % 10 == 0:
            await ask(daemon.port, "/v1/agents?limit=50", times["agents"])
            await ask(daemon.port, "/v1/fleet", times["fleet"])
            await ask(daemon.port, "/v1/alerts", times["alerts"])
            await ask(daemon.port, f"/v1/agents/agent_{agent}", times["agent"])
        ticks += 1
        await asyncio.sleep(max(0, began + ticks / 20 - time.time()))
    took, after = time.time() - began, daemon.seconds()
    judged = daemon.metric("railwatch_payments_applied_total") - applied
    told = followers.end()
    share = {name: round((after[name] - before.get(name, 0)) / took, 3) for name in after}
    return {
        "streams": streams,
        "judged_per_s": round(judged / took),
        "processor_share": round(sum(share.values()), 3),
        "by_thread": {name: value for name, value in share.items() if value >= 0.001},
        "ms": {name: quantiles(all) for name, all in times.items()},
        "events": told,
        "skipped": daemon.metric("railwatch_view_payments_skipped_total"),
    }


def compared(calm, watched, sync):
    """What looking changes, and the goals."""
    verdict = watched["ms"]["verdict"]["p99"]
    return {
        "judged_ratio": round(watched["judged_per_s"] / max(calm["judged_per_s"], 1), 3),
        "processor_share_of_looking": round(watched["processor_share"] - calm["processor_share"], 3),
        "verdict_p99_ms": verdict,
        "verdict_p99_goal_ms": VERDICT_GOAL_MS,
        "verdict_p99_in_syncs": round(verdict / max(sync["p50"], 1e-3), 2),
        "meets_goal": verdict <= VERDICT_GOAL_MS,
    }


def main():
    if sys.argv[1:2] == ["--follow"]:
        return asyncio.run(follow(int(sys.argv[2]), int(sys.argv[3])))
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--agents", type=int, default=400_000)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--port", type=int, default=7499)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(os.path.abspath(args.program), folder, args.port)
        try:
            while True:
                try:
                    daemon.get("/healthz")
                    break
                except OSError:
                    time.sleep(0.1)
            began = time.time()
            for first in range(0, args.agents, 5000):
                daemon.pay(range(first, min(first + 5000, args.agents)))
            while json.loads(daemon.get("/v1/fleet"))["agents"] < args.agents:
                time.sleep(0.1)
            found = {"agents": args.agents, "rate": args.rate, "filled_s": round(time.time() - began, 1)}
            found["sync_ms"] = syncs(folder)
            found["nobody_looks"] = asyncio.run(measure(daemon, args, 0))
            found["dashboards"] = asyncio.run(measure(daemon, args, args.streams))
            found["compared"] = compared(found["nobody_looks"], found["dashboards"], found["sync_ms"])
            print(json.dumps(found, indent=1))
        finally:
            daemon.process.kill()
            daemon.process.wait()


main()
