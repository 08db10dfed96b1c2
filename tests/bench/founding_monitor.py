"""The founding sketch of velocity as a user would write it: a sliding window that is pruned and summed per payment.

The baseline of `railwatch bench`: offline FILE SECS WINDOW_SECS runs for at most SECS of processor time on the payments
of a JSONL file and prints its rate, overall and at the end: its cost grows while the window fills.
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
    _, mode, path, budget, window_secs = sys.argv
    assert mode == "offline", "usage: founding_monitor.py offline FILE SECS WINDOW_SECS"
    monitor = SpendVelocityMonitor(float(window_secs))
    marks = [(0, 0.0)]
    with open(path) as lines:
        start = time.process_time()
        for n, line in enumerate(lines, 1):
            monitor.process(json.loads(line))
            if n % 100 == 0:
                marks.append((n, time.process_time() - start))
                if marks[-1][1] > float(budget):
                    break
    n, seconds = marks[-1]
    n_before, before = next(mark for mark in reversed(marks[:-1]) if mark[1] <= 0.8 * seconds)
    print(f"window={window_secs}s n={n} {n / seconds:.0f} ev/s overall, {monitor.alerts} alerts, "
          f"at the end {(n - n_before) / (seconds - before):.0f} ev/s")


if __name__ == "__main__":
    main()
