"""The founding sketch of velocity as a user would write it: a sliding window that is pruned and summed per payment.

The baseline of `railwatch bench`: offline FILE N WINDOW_SECS prints its rate on the first N payments of a JSONL file.
"""
import json
import sys
import time
from collections import defaultdict


class SpendVelocityMonitor:
    def __init__(self, window_secs, multiple=3.0):
        self.window_secs = window_secs
        self.multiple = multiple
        self.payments = defaultdict(list)  # agent -> [(time, dollars)]
        self.baseline = {}  # agent -> learned velocity
        self.alerts = 0

    def process(self, payment):
        agent = payment["agent_id"]
        now = payment["ts_us"] / 1e6
        self.payments[agent].append((now, payment["amount_usd"]))
        cutoff = now - self.window_secs
        self.payments[agent] = [(at, usd) for at, usd in self.payments[agent] if at >= cutoff]
        velocity = sum(usd for _, usd in self.payments[agent]) / self.window_secs
        usual = self.baseline.get(agent)
        if usual is None:
            self.baseline[agent] = velocity
            return
        self.baseline[agent] = 0.99 * usual + 0.01 * velocity
        if velocity > self.multiple * usual and len(self.payments[agent]) > 20:
            self.alerts += 1


def main():
    _, mode, path, n, window_secs = sys.argv
    assert mode == "offline", "usage: founding_monitor.py offline FILE N WINDOW_SECS"
    monitor = SpendVelocityMonitor(float(window_secs))
    with open(path) as lines:
        payments = [line for _, line in zip(range(int(n)), lines)]
    start = time.process_time()
    for payment in payments:
        monitor.process(json.loads(payment))
    seconds = time.process_time() - start
    print(f"window={window_secs}s n={len(payments)} {len(payments) / seconds:.0f} ev/s overall, {monitor.alerts} alerts")


if __name__ == "__main__":
    main()
