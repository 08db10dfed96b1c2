#!/usr/bin/env python3
"""Labelled simulator of AI-agent spend over Stripe / x402 / L402.

    python3 simulate.py --out data/dev --agents 500 --days 28 --seed 1

Needs numpy only. Deterministic: the same arguments give the same bytes (one generator per agent, seeded
from (seed, agent number), so adding agents does not change the earlier ones' base traffic).

Writes into --out:
  events.jsonl.gz   one payment per line, in ARRIVAL order:
        {"ts":<event time, epoch s>,"ingest_ts":<arrival, epoch s>,"id":...,"agent_id":...,"rail":...,
         "amount_usd":...,"payee":...}
        - ts may be earlier than a line before it (late events, outages followed by a flush), and carries a
          constant clock skew for some agents; an id can be delivered twice (at-least-once) - count it once.
  agents.json       what an operator knows: agent_id, peer_group (10 % wrong), created_ts, budget_usd,
                    period_start, period_end
  annotations.jsonl what an operator announces: planned migrations {ts_start, ts_end, agent_id, type, rail_from, rail_to}
  labels.json       ground truth (never shown to a detector):
        incidents[]:   {id, agent_id, kind, start, end, factor, excess_usd, curve:[[ts,cumulative excess usd],...],
                        accept:[alert kinds that name it rightly]}
        confounders[]: {agent_id, kind, start, end}   alerts here are FALSE alerts, reported by confounder
        budget_exhausted: {agent_id: ts}              a `budget` alert for these agents is never false
        archetype:     {agent_id: name}, warmup_end, t0, t1, preset, seed

Incident kinds: runaway_40x, runaway_10x, slow_drift, rail_shift, duplicate_payments, budget_blowout, price_jump,
dormant_awakening, credential_theft.  Nothing is injected before warmup_end (day 7).
Confounders: weekly_batch, month_end, planned_migration, traffic_growth, new_agent, outage_flush, clock_skew,
benign_new_payee, benign_new_rail, lumpy_stripe.
"""
import argparse, gzip, json, math, os
from dataclasses import dataclass, asdict
import numpy as np

RAILS = ["stripe", "x402", "l402"]
H = 3600.0
DAY = 86400.0


@dataclass
class Preset:
    """Every number that shapes a fleet. Another fleet is another Preset."""
    name: str = "dev"
    t0: float = 1773014400.0                 # Monday 2026-03-09T00:00:00Z (month end falls on day 21/22)
    warmup_days: int = 7
    mix: tuple = (("cron", .16), ("bursty", .22), ("human", .20), ("micro", .20), ("dormant", .10), ("ramp", .05), ("batch", .07))
    p_new: float = .08                       # share of agents that start mid-run
    micro_median: float = 0.012              # x402 today: median about $0.01, mean $0.05-0.26
    micro_sigma: float = 1.1
    api_median: float = 0.15                 # API-priced calls of bursty/human agents
    api_sigma: float = 1.0
    lump_lo: float = 50.0
    lump_hi: float = 500.0
    lumps_per_day: tuple = (.1, .8)
    cron_periods: tuple = (300, 600, 900, 1800, 3600)
    session_calls: tuple = (4, 25)
    session_gap: tuple = (3., 20.)
    sessions_per_day: tuple = (3, 20)
    micro_per_hour: tuple = (3, 30)
    day_sigma: tuple = (.05, .30)            # day-to-day log-normal level noise
    growth_per_day: tuple = (.02, .06)
    per_kind: float = .024                   # incidents of each kind, as a share of agents (12 for 500)
    f40: tuple = (30, 50)
    f10: tuple = (8, 12)
    runaway_hours: tuple = (1., 4.)
    drift_factor: tuple = (1.5, 4.)
    drift_days: tuple = (3., 6.)
    rail_p: tuple = (.85, .97)
    rail_hours: tuple = (8., 36.)
    dup_p: tuple = (.7, 1.)
    dup_hours: tuple = (4., 24.)
    blow_factor: tuple = (2., 3.5)
    price_factor: tuple = (5., 20.)
    price_hours: tuple = (6., 48.)
    awake_per_hour: tuple = (6., 60.)
    theft_per_hour: tuple = (.5, 3.)
    theft_hours: tuple = (12., 48.)
    late_p: float = .01
    redeliver_p: float = .005
    skew_p: float = .10
    outage_p: float = .06


ACCEPT = {  # alert kinds that name the incident rightly ("review" = the composite score, always right)
    "runaway_40x": ["velocity", "review"], "runaway_10x": ["velocity", "review"],
    "slow_drift": ["velocity", "drift", "budget", "review"], "rail_shift": ["rail_shift", "new_rail", "review"],
    "duplicate_payments": ["duplicate", "velocity", "review"], "budget_blowout": ["budget", "velocity", "drift", "review"],
    "price_jump": ["price", "velocity", "review"], "dormant_awakening": ["velocity", "dormant", "review"],
    "credential_theft": ["new_payee", "new_rail", "rail_shift", "review"]}


class Agent:
    """Base traffic of one agent as parallel numpy arrays, plus the means to inject things into it."""

    def __init__(self, i, P, days, seed):
        self.i, self.P = i, P
        r = self.r = np.random.default_rng([seed, i])
        self.id = f"agent-{i:05d}"
        kinds, w = zip(*P.mix)
        self.arch = str(r.choice(kinds, p=np.array(w) / sum(w)))
        self.t0, self.t1 = P.t0, P.t0 + days * DAY
        self.created = self.t0
        self.conf = []
        if r.random() < P.p_new and self.arch not in ("dormant", "batch", "ramp"):
            self.created = self.t0 + r.uniform(7.5, days * .75) * DAY
            self.conf.append(("new_agent", self.created, self.created + 2 * DAY))
        self.tz = float(r.choice([-8, -5, 0, 1, 5.5, 8])) * H
        self.kind = self.arch if self.arch in ("cron", "bursty", "human", "micro", "dormant") else \
            ("cron" if self.arch == "batch" else str(r.choice(["micro", "bursty"])))
        self.peer = self.kind if r.random() > .1 else str(r.choice(["cron", "bursty", "human", "micro", "dormant"]))
        self._payees()
        self._base(days)

    def _payees(self):
        r, P = self.r, self.P
        k = {"cron": r.integers(1, 4), "bursty": r.integers(2, 9), "human": r.integers(3, 11), "micro": r.integers(3, 11),
             "dormant": r.integers(1, 4)}[self.kind]
        n_rails = 1 if r.random() < .45 else (2 if r.random() < .7 else 3)
        pref = {"micro": [.04, .66, .30]}.get(self.kind, [.42, .40, .18])
        self.rails = [str(x) for x in r.choice(RAILS, size=n_rails, replace=False, p=pref)]
        self.pay = []
        med, sig = (P.micro_median, P.micro_sigma) if self.kind == "micro" else (P.api_median, P.api_sigma)
        for j in range(k):
            price = float(np.clip(med * math.exp(sig * r.standard_normal()), .001, .30 if self.kind == "micro" else 40.))
            self.pay.append([f"p{self.i:05d}-{j}", self.rails[j % n_rails], price, 0. if r.random() < .55 else r.uniform(.2, .9)])
        self.w = r.dirichlet(np.full(k, 1.3))
        self.lumps = 0.
        if self.kind == "micro" and r.random() < .5:
            self.lumps = r.uniform(*P.lumps_per_day)

    def amounts(self, idx):
        """Prices of calls to payees idx: a fixed price, or log-normal around it."""
        med = np.array([p[2] for p in self.pay])[idx]
        sig = np.array([p[3] for p in self.pay])[idx]
        a = med * np.exp(sig * self.r.standard_normal(len(idx)))
        return np.maximum(np.round(a, 6), .000001)

    def _base(self, days):
        r, P = self.r, self.P
        hours = int(days * 24)
        tt = self.t0 + np.arange(hours) * H
        loc = tt + self.tz
        hod = (loc % DAY) / H
        dow = ((loc // DAY) + 3) % 7                                   # epoch day 0 was a Thursday; 0 = Monday
        lvl = np.repeat(np.exp(r.uniform(*P.day_sigma) * r.standard_normal(int(days))), 24)
        shape = 1 + r.uniform(.1, .6) * np.cos((hod - r.uniform(10, 20)) / 24 * 2 * np.pi)
        if self.kind == "human":
            b, e = r.uniform(7.5, 10), r.uniform(16, 19.5)
            on = 1 / (1 + np.exp(-(hod - b) * 2.5)) / (1 + np.exp((hod - e) * 2.5))
            shape = (on + .01) * np.where(dow >= 5, r.uniform(.02, .2), 1.)
            shape = shape / shape.mean()
        if self.arch == "ramp":
            g = r.uniform(*P.growth_per_day)
            lvl = lvl * np.exp(np.log1p(g) * np.arange(hours) / 24)
            self.conf.append(("traffic_growth", self.t0, self.t1))
        if self.kind == "human" and r.random() < .35:                  # month end: 2-3x on the last two days of the month
            d = np.array([np.datetime64(int(x), "s") for x in loc])
            left = (d.astype("M8[M]") + 1).astype("M8[D]") - d.astype("M8[D]")
            me = (left.astype(int) <= 2)
            if me.any():
                lvl = np.where(me, lvl * r.uniform(2, 3), lvl)
                self.conf.append(("month_end", float(tt[me][0]), float(tt[me][-1] + H)))
        sess = None
        if self.kind == "cron":
            per = float(r.choice(P.cron_periods))
            t = np.arange(self.t0 + r.uniform(0, per), self.t1, per)
            t = np.repeat(t, r.integers(1, 4)) + 0.
            t = t + np.abs(r.normal(0, 4, len(t)))
            sess = np.arange(len(t)) if len(self.pay) > 1 else None
        elif self.kind == "micro":
            n = r.poisson(np.exp(r.uniform(*np.log(P.micro_per_hour))) * shape * lvl)
            t = np.repeat(tt, n) + r.uniform(0, H, n.sum())
        elif self.kind == "dormant":
            n = r.poisson(r.uniform(.1, 1.) / 24, hours)
            t = np.repeat(tt, n) + r.uniform(0, H, n.sum())
        else:
            n = r.poisson(r.uniform(*P.sessions_per_day) / 24 * shape * lvl)
            s = np.repeat(tt, n) + r.uniform(0, H, n.sum())
            calls = r.geometric(1 / r.uniform(*P.session_calls), len(s))
            gap = r.uniform(*P.session_gap)
            t = np.concatenate([s_ + np.cumsum(r.exponential(gap, c)) for s_, c in zip(s, calls)]) if len(s) else np.zeros(0)
            sess = np.repeat(np.arange(len(s)), calls)
        idx = r.choice(len(self.pay), size=len(t), p=self.w)
        if sess is not None and len(t):                                # sessions stick to one payee most of the time
            first = r.choice(len(self.pay), size=int(sess.max()) + 1, p=self.w)
            idx = np.where(r.random(len(t)) < .7, first[sess], idx)
        amt = self.amounts(idx) if len(t) else np.zeros(0)
        rail = np.array([RAILS.index(p[1]) for p in self.pay])[idx] if len(t) else np.zeros(0, int)
        names = np.array([p[0] for p in self.pay], dtype=object)[idx] if len(t) else np.zeros(0, object)
        if self.arch == "batch":                                       # weekly job at one hour of the week, 8-15x
            how, f, dur = r.integers(0, 168), r.uniform(8, 15), r.uniform(1, 2)
            rate = max(len(t) / hours * f, 40)
            for wk in range(int(math.ceil(days / 7))):
                s = self.t0 + wk * 7 * DAY + how * H + r.normal(0, 600)
                n = r.poisson(rate * dur)
                x = s + np.sort(r.uniform(0, dur * H, n))
                ii = r.choice(len(self.pay), size=n, p=self.w)
                t, amt = np.concatenate([t, x]), np.concatenate([amt, self.amounts(ii)])
                rail = np.concatenate([rail, np.array([RAILS.index(p[1]) for p in self.pay])[ii]])
                names = np.concatenate([names, np.array([p[0] for p in self.pay], dtype=object)[ii]])
                self.conf.append(("weekly_batch", s, s + dur * H + 900))
        if self.lumps:
            n = r.poisson(self.lumps * days)
            x = self.t0 + r.uniform(0, days * DAY, n)
            t, amt = np.concatenate([t, x]), np.concatenate([amt, np.round(np.exp(r.uniform(math.log(P.lump_lo), math.log(P.lump_hi), n)), 2)])
            rail, names = np.concatenate([rail, np.zeros(n, int)]), np.concatenate([names, np.full(n, f"p{self.i:05d}-topup", object)])
        ok = (t >= self.created) & (t < self.t1)
        o = np.argsort(t[ok], kind="stable")
        self.t, self.amt, self.rail, self.name = t[ok][o], amt[ok][o], rail[ok][o], names[ok][o]
        self.base_usd = float(self.amt.sum())
        self.rate = len(self.t) / max((self.t1 - self.created) / H, 1)   # events per hour, mean

    # --- injection ---------------------------------------------------------------------------------------------
    def add(self, t, amt, rail, name):
        self.t, self.amt = np.concatenate([self.t, t]), np.concatenate([self.amt, amt])
        self.rail, self.name = np.concatenate([self.rail, rail]), np.concatenate([self.name, name])
        o = np.argsort(self.t, kind="stable")
        self.t, self.amt, self.rail, self.name = self.t[o], self.amt[o], self.rail[o], self.name[o]

    def amplify(self, s, e, f, spread):
        """Copies of the payments in [s,e): Poisson(f(t)-1) each, moved by spread()."""
        m = np.where((self.t >= s) & (self.t < e))[0]
        n = self.r.poisson(np.maximum(f(self.t[m]) - 1, 0))
        j = np.repeat(m, n)
        t = self.t[j] + spread(len(j))
        k = t < min(e, self.t1)
        j, t = j[k], t[k]
        cp = (t, self.amt[j].copy(), self.rail[j].copy(), self.name[j].copy())
        self.add(*cp)
        return cp[0], cp[1]

    def share(self, rail, s=None):
        m = (self.t < s) if s else np.ones(len(self.t), bool)
        return float((self.rail[m] == rail).mean()) if m.any() else 0.


class NoRoom(Exception):
    """The agent started too late for an incident of this length."""


def when(r, lo, hi):
    if hi <= lo:
        raise NoRoom
    return r.uniform(lo, hi)


def inject(a, kind, P, t_end, budgets):
    """Injects one incident; returns (start, end, factor, excess times, excess usd) or None where it does not fit."""
    r = a.r
    lo = max(P.t0 + P.warmup_days * DAY, a.created + 4 * DAY)
    if lo > t_end - 2 * DAY:
        return None
    U = lambda x: float(np.exp(r.uniform(*np.log(x))))
    if kind.startswith("runaway"):
        if a.rate < .5:
            return None
        f = U(P.f40 if kind == "runaway_40x" else P.f10)
        d = r.uniform(*P.runaway_hours) * H
        s = when(r, lo, t_end - d)
        cnt = r.poisson((f - 1) * a.rate * d / H)
        if cnt < 5:
            return None
        t = np.sort(s + r.uniform(0, d, cnt))
        # a loop repeats one call; take the payee whose price is nearest to the agent's mean, so that $ scale like calls
        mean = np.average([p[2] for p in a.pay], weights=a.w)
        j = int(np.argmin([abs(math.log(p[2] / mean)) for p in a.pay]))
        x = a.amounts(np.full(cnt, j))
        a.add(t, x, np.full(cnt, RAILS.index(a.pay[j][1])), np.full(cnt, a.pay[j][0], object))
        return float(t[0]), s + d, f, t, x
    if kind in ("slow_drift", "budget_blowout"):
        if a.rate < .5 or a.arch in ("ramp", "batch") or a.lumps:
            return None
        if kind == "slow_drift":
            f, ramp = r.uniform(*P.drift_factor), r.uniform(*P.drift_days) * DAY
            s = r.uniform(lo, max(lo + 1, t_end - ramp - 2.5 * DAY))
            e = min(s + ramp + 2 * DAY, t_end)
            F = lambda t: np.exp(np.log(f) * np.minimum((t - s) / ramp, 1))
        else:
            f = r.uniform(*P.blow_factor)
            s = when(r, lo, t_end - 8 * DAY)
            e = min(s + r.uniform(5, 9) * DAY, t_end)
            F = lambda t: np.full(len(t), f)
        t, x = a.amplify(s, e, F, lambda n: r.exponential(900, n))
        if kind == "budget_blowout":
            pre = a.amt[(a.t < s)].sum()
            if len(t) < 20:
                return None
            # the budget ran fine before; now it empties 40-80 % of the way through the incident
            budgets[a.id] = float(pre + a.amt[(a.t >= s) & (a.t < s + r.uniform(.4, .8) * (e - s))].sum())
        return (s, e, f, t, x) if len(t) >= 10 else None
    if kind == "rail_shift":
        if a.rate < .8:
            return None
        c = [k for k in range(3) if a.share(k) < .30]
        if not c:
            return None
        k = int(r.choice(c))
        d, p = r.uniform(*P.rail_hours) * H, r.uniform(*P.rail_p)
        for _ in range(20):
            s = when(r, lo, t_end - d)
            m = np.where((a.t >= s) & (a.t < s + d))[0]
            if len(m) >= 15:
                break
        else:
            return None
        m = m[r.random(len(m)) < p]
        a.rail[m] = k
        return float(a.t[m[0]]), s + d, p, a.t[m], a.amt[m]
    if kind == "duplicate_payments":
        if a.rate < .8:
            return None
        d, p = r.uniform(*P.dup_hours) * H, r.uniform(*P.dup_p)
        for _ in range(20):
            s = when(r, lo, t_end - d)
            if ((a.t >= s) & (a.t < s + d)).sum() >= 15:
                break
        else:
            return None
        t, x = a.amplify(s, s + d, lambda t: np.where(r.random(len(t)) < p, 1. + (r.random(len(t)) < .3) + 1., 1.) * 1., lambda n: r.uniform(.2, 5., n))
        return (float(t.min()), s + d, 2., t, x) if len(t) >= 10 else None
    if kind == "price_jump":
        if a.rate < .5:
            return None
        j = int(np.argmax(a.w))
        f, d = U(P.price_factor), r.uniform(*P.price_hours) * H
        for _ in range(20):
            s = when(r, lo, t_end - d)
            m = np.where((a.t >= s) & (a.t < s + d) & (a.name == a.pay[j][0]))[0]
            if len(m) >= 8:
                break
        else:
            return None
        x = a.amt[m] * (f - 1)
        a.amt[m] = np.round(a.amt[m] * f, 6)
        return float(a.t[m[0]]), s + d, f, a.t[m], x
    if kind == "dormant_awakening":
        if a.arch != "dormant":
            return None
        f, d = U(P.awake_per_hour), r.uniform(2, 12) * H
        s = when(r, lo, t_end - d)
        n = max(r.poisson(f * d / H), 15)
        t = np.sort(s + r.uniform(0, d, n))
        j = int(r.integers(len(a.pay)))
        x = a.amounts(np.full(n, j)) * r.uniform(1, 3)
        a.add(t, np.round(x, 6), np.full(n, RAILS.index(a.pay[j][1])), np.full(n, a.pay[j][0], object))
        return float(t[0]), s + d, f, t, x
    if kind == "credential_theft":
        unused = [k for k in range(3) if a.share(k) == 0]
        if not unused or a.rate < .8:
            return None
        d, f = r.uniform(*P.theft_hours) * H, U(P.theft_per_hour)
        s = when(r, lo, t_end - d)
        n = max(r.poisson(f * d / H), 6)
        t = np.sort(s + r.uniform(0, d, n))
        x = np.round(np.quantile(a.amt, .9) * r.uniform(1, 4) * np.exp(.3 * r.standard_normal(n)), 6)
        a.add(t, x, np.full(n, int(r.choice(unused))), np.full(n, f"x{a.i:05d}-drain", object))
        return float(t[0]), s + d, f, t, x
    raise ValueError(kind)


def benign(a, P, t_end, notes):
    """Confounders that are added on top of base traffic of an agent without an incident."""
    r = a.r
    w = P.t0 + P.warmup_days * DAY
    if a.created > P.t0:
        return
    x = r.random()
    if x < .07 and a.rate > .5 and len(a.rails) < 3:                   # planned, announced migration over 3-5 days
        s, d = r.uniform(w, t_end - 6 * DAY), r.uniform(3, 5) * DAY
        k = int(r.choice([i for i, n in enumerate(RAILS) if n not in a.rails]))
        frm = RAILS.index(a.rails[0])
        m = np.where((a.t >= s) & (a.rail == frm))[0]
        m = m[r.random(len(m)) < np.minimum((a.t[m] - s) / d, 1)]
        a.rail[m] = k
        a.conf.append(("planned_migration", s, s + d + DAY))
        notes.append({"ts_start": round(s, 3), "ts_end": round(s + d + DAY, 3), "agent_id": a.id, "type": "planned_migration", "rail_from": RAILS[frm], "rail_to": RAILS[k]})
    elif x < .37 and len(a.t) > 50:                                     # a new payee on a rail the agent uses; stays
        s = r.uniform(w, t_end - DAY)
        m = np.where(a.t >= s)[0]
        m = m[r.random(len(m)) < r.uniform(.02, .15)]
        a.name[m] = f"p{a.i:05d}-new"
        a.conf.append(("benign_new_payee", s, s + DAY))
    elif x < .42 and len(a.t) > 50 and len(a.rails) < 3:                # tries a new tool on a new rail: 1-3 small payments
        s = r.uniform(w, t_end - DAY)
        n = int(r.integers(1, 4))
        k = int(r.choice([i for i, nme in enumerate(RAILS) if nme not in a.rails]))
        t = np.sort(s + r.uniform(0, 3 * H, n))
        a.add(t, np.round(np.quantile(a.amt, .3) * r.uniform(.5, 1.5, n), 6) + 1e-6, np.full(n, k), np.full(n, f"p{a.i:05d}-trial", object))
        a.conf.append(("benign_new_rail", s, s + 6 * H))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--agents", type=int, default=500)
    ap.add_argument("--days", type=int, default=28)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--per-kind", type=float, help="incidents of each kind as a share of agents")
    o = ap.parse_args()
    P = Preset()
    if o.per_kind: P.per_kind = o.per_kind
    os.makedirs(o.out, exist_ok=True)
    g = np.random.default_rng([o.seed, 2**31])
    agents = [Agent(i, P, o.days, o.seed) for i in range(o.agents)]
    t_end = P.t0 + o.days * DAY
    budgets, notes, inc, taken = {}, [], [], set()
    base = {a.id: a.base_usd for a in agents}
    for kind in ACCEPT:
        want = max(1, round(P.per_kind * o.agents))
        for i in g.permutation(len(agents)):
            if want == 0:
                break
            a = agents[i]
            if a.id in taken:
                continue
            try:
                got = inject(a, kind, P, t_end, budgets)
            except NoRoom:
                got = None
            if got is None:
                continue
            s, e, f, t, x = got
            taken.add(a.id)
            want -= 1
            order = np.argsort(t, kind="stable")
            t, cum = t[order], np.cumsum(x[order])
            q = np.unique(np.linspace(0, len(t) - 1, min(len(t), 240)).astype(int))
            inc.append({"id": f"i{len(inc):04d}", "agent_id": a.id, "kind": kind, "start": round(s, 3), "end": round(float(e), 3), "factor": round(float(f), 3),
                        "excess_usd": round(float(cum[-1]), 6), "events": int(len(t)), "curve": [[round(float(t[k]), 3), round(float(cum[k]), 6)] for k in q], "accept": ACCEPT[kind]})
    for a in agents:
        if a.id not in taken:
            benign(a, P, t_end, notes)
        if a.lumps:
            a.conf.append(("lumpy_stripe", P.t0, t_end))
    # budgets: generous for everybody else (1.6-3x what the period will cost), so that a budget alert there is wrong
    meta, exhausted = [], {}
    for a in agents:
        r = np.random.default_rng([o.seed, a.i, 77])
        b = budgets.get(a.id, max(float(a.amt.sum()), .5) * r.uniform(1.6, 3.))
        c = np.cumsum(a.amt)
        k = np.searchsorted(c, b)
        if k < len(c):
            exhausted[a.id] = round(float(a.t[k]), 3)
        meta.append({"agent_id": a.id, "peer_group": a.peer, "created_ts": round(a.created, 3), "budget_usd": round(b, 2),
                     "period_start": P.t0, "period_end": t_end})
    # delivery: latency, late events, skew, an outage with a flush, redelivery
    T, I, A, R, M, N = [], [], [], [], [], []
    for a in agents:
        r = np.random.default_rng([o.seed, a.i, 78])
        n = len(a.t)
        ing = a.t + r.exponential(.3, n)
        late = r.random(n) < P.late_p
        ing = np.where(late, a.t + np.exp(r.uniform(math.log(30), math.log(1800), n)), ing)
        ts = a.t.copy()
        if r.random() < P.skew_p:
            ts = ts + r.choice([-1, 1]) * np.exp(r.uniform(math.log(5), math.log(120)))
            a.conf.append(("clock_skew", P.t0, t_end))
        if r.random() < P.outage_p:
            s = r.uniform(P.t0 + P.warmup_days * DAY, t_end - DAY)
            d = r.uniform(1, 3) * H
            m = (a.t >= s) & (a.t < s + d)
            ing = np.where(m, s + d + r.uniform(0, 30, n) + (a.t - s) * 1e-3, ing)
            a.conf.append(("outage_flush", s, s + d + 900))
        T.append(ts), I.append(ing), A.append(np.full(n, a.i)), R.append(a.rail), M.append(a.amt), N.append(a.name)
    T, I, A, R, M, N = (np.concatenate(x) for x in (T, I, A, R, M, N))
    E = np.arange(len(T))
    dup = np.where(g.random(len(T)) < P.redeliver_p)[0]
    I2 = I[dup] + g.uniform(1, 60, len(dup))
    T, A, R, M, N, E = (np.concatenate([x, x[dup]]) for x in (T, A, R, M, N, E))
    I = np.concatenate([I, I2])
    with open(f"{o.out}/events.jsonl.gz", "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as fz:
        buf = []
        for k in np.argsort(I, kind="stable"):
            buf.append('{"ts":%.3f,"ingest_ts":%.3f,"id":"e%08x","agent_id":"agent-%05d","rail":"%s","amount_usd":%.6f,"payee":"%s"}\n'
                       % (T[k], I[k], (int(E[k]) * 2654435761) & 0xffffffff, A[k], RAILS[R[k]], M[k], N[k]))
            if len(buf) == 20000:
                fz.write("".join(buf).encode()); buf = []
        fz.write("".join(buf).encode())
    json.dump(meta, open(f"{o.out}/agents.json", "w"), indent=0)
    with open(f"{o.out}/annotations.jsonl", "w") as f:
        for x in sorted(notes, key=lambda x: x["ts_start"]):
            f.write(json.dumps(x) + "\n")
    conf = [{"agent_id": a.id, "kind": k, "start": round(float(s), 3), "end": round(float(e), 3)} for a in agents for k, s, e in a.conf]
    json.dump({"preset": asdict(P), "seed": o.seed, "agents": o.agents, "days": o.days, "t0": P.t0, "t1": t_end,
               "warmup_end": P.t0 + P.warmup_days * DAY, "incidents": inc, "confounders": conf, "budget_exhausted": exhausted,
               "archetype": {a.id: a.arch for a in agents}, "created": {a.id: round(a.created, 3) for a in agents}}, open(f"{o.out}/labels.json", "w"))
    kinds = {}
    for x in inc:
        kinds[x["kind"]] = kinds.get(x["kind"], 0) + 1
    print(f"{o.out}: {len(T)} lines ({len(dup)} redelivered), {o.agents} agents, {o.days} days, ${M[:len(E)-len(dup)].sum():,.0f}, incidents {kinds}, confounders {len(conf)}, announced {len(notes)}")


if __name__ == "__main__":
    main()
