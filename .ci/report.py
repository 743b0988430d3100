#!/usr/bin/env python3
"""Sums up `go test -json`: prints what failed, refuses skipped tests."""
import json
import sys

counts = {"pass": 0, "fail": 0, "skip": 0}
output, bad = {}, []
for line in open(sys.argv[1]):
    try:
        event = json.loads(line)
    except ValueError:
        print(line, end="")
        continue
    key = (event.get("Package", ""), event.get("Test", ""))
    action = event["Action"]
    if action in ("output", "build-output"):
        output.setdefault(key, []).append(event["Output"])
    elif action in counts and key[1]:
        # Allocation counts mean nothing under the race detector; .ci/run repeats those tests without it.
        if action == "skip" and "-race" in "".join(output.get(key, [])):
            continue
        counts[action] += 1
        if action != "pass":
            bad.append((action, key))
    elif action == "fail" or action == "build-fail":
        bad.append((action, key))
for action, key in bad:
    print(f"--- {action.upper()}: {key[0]} {key[1]}")
    print("".join(output.get(key, [])[-200:]), end="")
for key, lines in output.items():
    if not key[1] and any(l.startswith(("ok", "FAIL", "panic", "#")) for l in lines):
        print("".join(l for l in lines if l.startswith(("ok", "FAIL", "panic", "#"))), end="")
print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
if counts["skip"]:
    print("a test was skipped: install what it asks for, or run as root on a kernel that has it")
sys.exit(1 if bad or not counts["pass"] else 0)
