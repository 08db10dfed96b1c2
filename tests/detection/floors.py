"""Fails if what was found in a fleet is below its floors: floors.py DIR OUT.jsonl RECALL_MIN FALSE_MAX.

At the threshold of the shipped configuration, 10 nats: the share of incidents found, and false alerts per 1,000 agent-days.
"""

import sys

import score

THRESHOLD = 10.0


def main():
    folder, alerts, recall_min, false_max = sys.argv[1:]
    labels, found = score.load(f"{folder}/labels.json", alerts)
    result = score.evaluate(labels, found, THRESHOLD, detail=True)
    recall, false = result["recall"], result["fa_per_1000_agent_days"]
    print(f"{folder}: recall {recall:.2f} (floor {recall_min}), {false:.1f} false per 1,000 agent-days (at most {false_max})")
    for incident in result["missed"]:
        print(f"  missed {incident['kind']} of {incident['agent_id']}, {incident['factor']} times the usual")
    if recall < float(recall_min) or false > float(false_max):
        sys.exit("detection is below its floor")


main()
