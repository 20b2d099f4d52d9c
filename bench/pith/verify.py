"""The baseline in Python: verify one bundle again and again and print how many a second.

    python3 bench/pith/verify.py BUNDLE SECONDS

It asks what bench/pith/plain asks: number, digests, event ids, receipts,
signatures and the state by replaying the events.
"""
import base64, hashlib, json, sys, time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

OUTSIDE_EVENT = ("content_sha256", "event_id", "signature")
LISTS = ("author_attestations", "timestamp_anchors", "storage_attestations", "citation_signatures",
         "replication_records", "corrections", "mirror_hints", "graph_snapshots")


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value, *without):
    return hashlib.sha256(canonical({k: v for k, v in value.items() if k not in without})).digest()


def state_of(b):
    current = {"canonical_record": b["canonical_record"], "source_aliases": b["source_aliases"], **{name: [] for name in LISTS}}
    ids = []
    for e in b["events"]:
        ids.append(e["event_id"])
        shown = {k: e[k] for k in ("event_id", "target", "created_at", "signer", "payload")}
        if e["event_type"] == "record_created":
            current["record_created"] = shown
        else:
            current["graph_snapshots"].append(shown)
    state = {"state_type": "pith_open_graph_state", "state_version": "1.0", "merge_version": "pith-open-graph-merge-v1",
             "pith_number": b["pith_number"], "current": current, "applied_event_ids": ids,
             "event_count": len(ids), "valid_event_count": len(ids), "invalid_event_count": 0,
             "equivocation_count": 0, "equivocations": [], "invalid_events": []}
    state["state_sha256"] = digest(state).hex()
    return state


def verify(data):
    b = json.loads(data)
    keys = {}
    for k in b["public_keys"]:
        raw = base64.b64decode(k["public_key_b64"], validate=True)
        keys[hashlib.sha256(raw).hexdigest()[:32]] = Ed25519PublicKey.from_public_bytes(raw)

    def signed(s, message):
        keys[s["public_key_fingerprint"]].verify(base64.b64decode(s["signature_b64"], validate=True), message)

    record = b["canonical_record"]
    record_digest = digest(record)
    assert b["canonical_sha256"] == record_digest.hex()
    suffix = base64.b32encode(record_digest).decode()[:26]
    assert b["pith_number"] == "pith:" + record["metadata"]["submitted_at"][:4] + ":" + suffix
    for e in b["events"]:
        d = digest(e, *OUTSIDE_EVENT)
        assert e["content_sha256"] == d.hex() and e["event_id"] == "sha256:" + d.hex()
        signed(e["signature"], d)
        payload = e["payload"]
        if "receipt" in payload:
            assert payload["canonical_record"] == record
            signed(payload["receipt"], record_digest)
        if "graph_snapshot" in payload:
            title = payload["graph_snapshot"]["paper"]["title"].lower().encode()
            assert hashlib.sha256(title).hexdigest() == record["metadata"]["title_canon_sha256"]
    assert canonical(state_of(b)) == canonical(b["state"])
    d = digest(b, "bundle_signature")
    assert b["bundle_signature"]["bundle_sha256"] == d.hex()
    signed(b["bundle_signature"], d)


def main(path, seconds):
    with open(path, "rb") as f:
        data = f.read()
    verify(data)
    changed = data.replace(b"Smoothing", b"smoothing", 1)
    try:
        verify(changed)
    except (AssertionError, InvalidSignature):
        pass
    else:
        sys.exit("a changed bundle was accepted")
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < float(seconds):
        verify(data)
        n += 1
    print(n / (time.perf_counter() - start))


if __name__ == "__main__":
    main(*sys.argv[1:])
