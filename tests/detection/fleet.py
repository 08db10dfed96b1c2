"""Draws a fleet whose preset is drawn too: another start date and month end, mix, price level and spread, session length
and gap, period, noise, growth, size and length of incidents, share of late, redelivered and skewed events. A seed gives
the same bytes every time; with `plain`, the preset of simulate.py.

    python3 fleet.py OUT SEED [AGENTS [DAYS [PER_KIND [plain]]]]       # 400 agents, 28 days, .05 of them per kind
"""

import random
import sys

import simulate


def drawn(seed):
    base, r = simulate.Preset, random.Random(seed)

    def span(values, least=0.6, most=1.6):
        factor = r.uniform(least, most)
        return tuple(value * factor for value in values)

    return base(
        name=f"drawn{seed}",
        t0=1773014400.0 + 86400 * r.randrange(0, 120),
        mix=tuple((kind, weight * r.uniform(0.5, 1.8)) for kind, weight in base.mix),
        p_new=r.uniform(0.04, 0.14),
        micro_median=0.012 * r.uniform(0.4, 3),
        micro_sigma=r.uniform(0.8, 1.4),
        api_median=0.15 * r.uniform(0.4, 3),
        api_sigma=r.uniform(0.7, 1.3),
        lumps_per_day=span(base.lumps_per_day),
        cron_periods=r.choice([(300, 600, 900, 1800, 3600), (120, 600, 1200, 7200), (240, 900, 3600), (600, 1800, 2700)]),
        session_calls=span(base.session_calls),
        session_gap=span(base.session_gap, 0.5, 2.5),
        sessions_per_day=span(base.sessions_per_day),
        micro_per_hour=span(base.micro_per_hour),
        day_sigma=span(base.day_sigma, 0.6, 1.4),
        growth_per_day=span(base.growth_per_day, 0.6, 1.2),
        f40=span(base.f40, 0.7, 1.3),
        f10=span(base.f10, 0.8, 1.4),
        runaway_hours=span(base.runaway_hours, 0.7, 1.6),
        drift_factor=(r.uniform(1.4, 1.8), r.uniform(3, 5)),
        drift_days=(r.uniform(2, 4), r.uniform(5, 8)),
        rail_hours=span(base.rail_hours, 0.7, 1.4),
        dup_p=(r.uniform(0.5, 0.75), 1.0),
        dup_hours=span(base.dup_hours, 0.7, 1.5),
        blow_factor=(r.uniform(1.7, 2.2), r.uniform(3, 4)),
        price_factor=span(base.price_factor, 0.6, 1.3),
        price_hours=span(base.price_hours, 0.7, 1.4),
        awake_per_hour=span(base.awake_per_hour, 0.6, 1.4),
        theft_per_hour=span(base.theft_per_hour, 0.6, 1.6),
        theft_hours=span(base.theft_hours, 0.7, 1.3),
        late_p=0.01 * r.uniform(0.5, 3),
        redeliver_p=0.005 * r.uniform(0.5, 3),
        skew_p=0.1 * r.uniform(0.5, 2),
        outage_p=0.06 * r.uniform(0.5, 2),
    )


def main():
    out, seed, *rest = sys.argv[1:]
    agents, days, per_kind = [*rest[:3], *["400", "28", ".05"][len(rest[:3]) :]]
    if rest[3:] != ["plain"]:
        preset = drawn(int(seed))
        simulate.Preset = lambda: preset
    arguments = ["--out", out, "--seed", seed, "--agents", agents, "--days", days, "--per-kind", per_kind]
    sys.argv = ["simulate.py", *arguments]
    simulate.main()


main()
