"""Writes the configuration that an operator of a simulated fleet would: its agents with peer groups and budgets, and what
was announced. Everything else stays as shipped, but for the evidence from which a signal is written: it is lowered, so
that a threshold can be moved afterwards. Reads `agents.json` and `annotations.jsonl`, nothing else.

    python3 configure.py DIR OPEN > railwatch.toml
"""

import datetime
import json
import os
import sys

DETECTORS = ["velocity", "rail_shift", "budget", "drift", "duplicate", "price", "new_payee", "dormant"]


def time(seconds):
    moment = datetime.datetime.fromtimestamp(float(seconds), datetime.timezone.utc)
    return json.dumps(moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def agent(known):
    yield "[[agents]]"
    yield f"id = {json.dumps(known['agent_id'])}"
    if known.get("peer_group"):
        yield f"peer_group = {json.dumps(known['peer_group'])}"
    if known.get("budget_usd", 0) > 0:
        begins, ends = time(known["period_start"]), time(known["period_end"])
        yield f'budget = {{ amount = "${known["budget_usd"]:.2f}", from = {begins}, until = {ends} }}'


def announcement(note):
    yield "[[announcements]]"
    yield f"agent = {json.dumps(note['agent_id'])}"
    yield f"from = {time(note['ts_start'])}"
    yield f"until = {time(note['ts_end'])}"
    if note.get("rail_to"):
        # A migration is about the rail that money moves to; everything else about the agent stays watched.
        yield 'kinds = ["rail_shift", "new_rail", "new_payee"]'
        yield f"rails = [{json.dumps(note['rail_to'])}]"
    yield f"reason = {json.dumps(note.get('type', 'announced'))}"


def main():
    folder, opens = sys.argv[1], float(sys.argv[2])
    for detector in DETECTORS:
        print(f"[detectors.{detector}]\nevidence = {{ open = {opens}, close = 4.0 }}")
    with open(os.path.join(folder, "agents.json"), encoding="utf-8") as file:
        for known in json.load(file):
            print(*agent(known), sep="\n")
    notes = os.path.join(folder, "annotations.jsonl")
    if os.path.exists(notes):
        with open(notes, encoding="utf-8") as file:
            for line in filter(str.strip, file):
                print(*announcement(json.loads(line)), sep="\n")


main()
