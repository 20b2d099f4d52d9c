#!/usr/bin/env python3
"""A client of the conformance kit (README.md): one request per line in, one
answer per line out."""

import base64
import json
import sys

import ots
import verify as pith


def canonical(request):
    try:
        return {"ok": True, "canonical": base64.b64encode(pith.canon(pith.read(request["input"]))).decode()}
    except pith.Refused as e:
        return {"ok": False, "reason": e.code}


def number(request):
    try:
        record = pith.Record(pith.read(request["input"]))
        return {"ok": True, "pith_number": record.number, "canonical_sha256": record.sha256}
    except pith.Refused as e:
        return {"ok": False, "reason": e.code}


def verify(request):
    try:
        policy = pith.Policy(*request.get("trust", []))
    except pith.Refused as e:
        return {"verdict": "unreadable", "failures": [e.code]}
    r = pith.verify(request["bundle"], policy)
    answer = {"verdict": r.verdict, "failures": r.failures, "notes": sorted(r.notes)}
    if r.history:
        h = r.history
        answer |= {
            "pith_number": r.record.number, "state_sha256": r.state["state_sha256"], "applied": [e.id for e in h.applied],
            "invalid": sorted(e.reason for e in h.invalid), "superseded": len(h.superseded),
            "equivocations": len(h.equivocations()), "title": r.title,
            "timestamps": {n: r.completeness[0][n] for n in ("valid", "trusted", "confirmed", "pending")}}
    return answer


def merge(request):
    try:
        bundle, events = pith.merge(request["bundles"])
    except pith.Refused:
        return {"ok": False}
    return {"ok": True, "merged_sha256": pith.sha(pith.canon(bundle)), "event_set_sha256": events,
            "state_sha256": bundle["state"]["state_sha256"]}


def timestamp(request):
    try:
        proof = ots.read(request["proof"])
    except ots.Bad:
        return {"ok": False}
    roots = {}
    for line in request["roots"].decode().splitlines():
        if line.strip() and not line.startswith("#"):
            height, root = line.split()[:2]
            roots[int(height)] = bytes.fromhex(root)[::-1]
    found = set()
    for kind, detail, message in proof.attestations:
        status = ""
        if kind == "bitcoin":
            status = " no_header" if detail not in roots else " confirmed" if roots[detail] == message else " wrong"
        found.add("other" if kind == "unknown" else "%s %s%s" % (kind, detail, status))
    return {"ok": True, "digest": proof.digest.hex(), "attestations": sorted(found)}


OPERATIONS = {"timestamp": timestamp, "canonical": canonical, "number": number, "verify": verify, "merge": merge}


def decode(value):
    return [base64.b64decode(v) for v in value] if isinstance(value, list) else base64.b64decode(value)


def main():
    for line in sys.stdin:
        request = json.loads(line)
        inputs = {k: decode(v) for k, v in request.items() if k not in ("id", "op")}
        print(json.dumps({"id": request["id"]} | OPERATIONS[request["op"]](inputs)), flush=True)


if __name__ == "__main__":
    main()
