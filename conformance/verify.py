"""Bundles, trust and merging by spec/, on top of pith.py (the objects)."""

from pith import *  # the vocabulary of the format

RANK = ["valid", "untrusted", "rejected", "unreadable"]
ENVELOPE = {"bundle_type": const("pith_open_graph_bundle"), "bundle_version": const("1.0"), "merge_version": const(MERGE_VERSION)}
BUNDLE = ENVELOPE | {
    "pith_number": text, "short_pith_number": text, "canonical_record": obj, "canonical_sha256": text, "source": obj,
    "source_aliases": array, "events": array, "timestamp_proofs": array, "mirror_hints": array, "public_keys": array,
    "built_at": second, "links": obj, "state": obj, "bundle_signature": obj}


class Result:
    def __init__(self):
        self.failed = {"unreadable": set(), "rejected": set(), "untrusted": set()}
        self.notes, self.record, self.history, self.state, self.completeness = set(), None, None, None, []

    def fail(self, verdict, *codes):
        self.failed[verdict].update(c for c in codes if c)

    def ask(self, code, ok):
        if not ok:
            self.fail("rejected", code)
        return ok

    def note(self, code, ok):
        if not ok:
            self.notes.add(code)

    @property
    def verdict(self):
        return max((v for v in RANK if self.failed.get(v)), key=RANK.index, default="valid")

    @property
    def title(self):
        return next((e.title for e in reversed(self.history.standing("graph_snapshot")) if e.title), "")

    @property
    def failures(self):
        return sorted(set().union(*self.failed.values()))


def verify(data, policy=None, unsigned_too=False):
    """Everything that can be asked of a bundle (9.1), under a policy."""
    r = Result()
    try:
        b = read(data)
    except Refused as e:
        r.fail("unreadable", e.code)
        return r
    if not shaped(b, ENVELOPE):  # 7.2
        r.fail("unreadable", "bundle_type")
        return r
    listed = lambda name: b[name] if array(b.get(name)) else []
    if any(len(listed(n)) > MAX_ENTRIES for n in ("events", "public_keys", "source_aliases", "mirror_hints", "timestamp_proofs")):
        r.fail("unreadable", "list_length")
        return r
    r.ask("bundle_shape", shaped(b, BUNDLE))
    r.note("unknown_member", not set(b) - set(BUNDLE))
    keys, names = {}, {}
    for v in listed("public_keys"):
        try:
            fingerprint, raw = public_key(v)
            if r.ask("key_duplicate", fingerprint not in keys):
                keys[fingerprint], names[fingerprint] = raw, v["key_id"]
        except Refused as e:
            r.fail("rejected", e.code)
    label = lambda sig: r.note("key_name", names.get(sig["public_key_fingerprint"], sig["key_id"]) == sig["key_id"])
    try:
        r.record = Record(b.get("canonical_record"))
    except Refused as e:
        r.fail("rejected", e.code)
    else:
        same = lambda code, name, want: r.ask(code, canon(b.get(name)) == canon(want))
        same("canonical_sha256", "canonical_sha256", r.record.sha256)
        same("pith_number", "pith_number", r.record.number)
        same("short_pith_number", "short_pith_number", "pith:" + r.record.suffix[:8])
        same("source", "source", r.record.source)
        for a in listed("source_aliases"):
            r.ask("alias", good_alias(a, r.record))
        for links in [b.get("links")] + listed("mirror_hints"):  # 7.7
            for name, url in links.items() if obj(links) else ():
                if name != "base_url" and text(url) and "://" in url:
                    r.note("locator", url.startswith("https://") and r.record.suffix in url)
        try:
            proofs = [timestamp_proof(p, r.record) for p in listed("timestamp_proofs")]
            r.note("timestamp_proofs", None not in proofs)
            events(r, b, listed("events"), keys, label)
        except Refused as e:  # 11.5
            r = Result()
            r.fail("unreadable", e.code)
            return r
        r.completeness = completeness(r, policy or Policy(), [p for p in proofs if p])
    sig, sha256 = b.get("bundle_signature"), digest(b, "bundle_signature")
    if unsigned_too and "bundle_signature" not in b:  # 5.11
        r.failed["rejected"].discard("bundle_shape")
        r.ask("bundle_shape", shaped(b, BUNDLE, optional=("bundle_signature",)))
        return r
    good = r.ask("bundle_sha256", obj(sig) and sig.get("bundle_sha256") == sha256)
    signer = None
    if r.ask("signature_shape", shaped(sig, BUNDLE_SIGNATURE, closed=True)):
        code = signature(sig, sha256, keys)
        if names.get(sig["public_key_fingerprint"]) != sig["key_id"]:  # 5.10
            code = "signature_key"
        if r.ask(code, code is None):
            signer = sig["public_key_fingerprint"] if good else None
    judge(r, policy or Policy(), signer, when(b.get("built_at")))
    return r


def events(r, b, values, keys, label):
    every = [Event(v, r.record, keys) for v in values]
    alone = [e.entry if e.reason else e.id for e in every]
    r.ask("event_duplicate", len(set(alone)) == len(alone))  # 7.5
    h = r.history = History(every)
    state = b.get("state") if obj(b.get("state")) else {}
    declared = state.get("invalid_events")
    declared = {canon(d) for d in declared} if array(declared) else set()
    for e in every:
        if e.reason and canon(invalid_entry(e)) in declared:  # 7.5
            r.notes.update(e.failed)
        else:
            r.fail("rejected", *e.failed)
        r.notes.update(e.notes)
        if not e.reason or e.failed[0] not in ("event_shape", "signature_shape"):
            if shaped(e.value, EVENT) and shaped(e.value["signature"], EVENT_SIGNATURE):
                label(e.value["signature"])
    r.note("prev_event_missing", not h.gaps)
    r.ask("record_created", h.standing("record_created"))
    r.state = h.state(r.record, b.get("source_aliases"))
    if obj(b.get("state")):
        r.ask("state_sha256", state.get("state_sha256") == digest(state, "state_sha256"))
        r.ask("state", digest(state, "state_sha256") == r.state["state_sha256"])


def timestamp_proof(p, record):
    """7.8: the proof, or None."""
    if not (obj(p) and p.get("schema") == "timestamp_anchor/1" and shaped(p, PAYLOADS["timestamp_anchor"][0])):
        return None
    return anchor(p, record)[1]


def completeness(r, policy, proofs):  # 9.6
    out = []
    for kind, type in (("timestamps", "timestamp_anchor"), ("attestations", "author_attestation"), ("storage", "storage_attestation"),
                       ("citations", "citation_signature"), ("replications", "replication_record")):
        here = r.history.standing(type)
        entry = {"kind": kind, "valid": len(here), "trusted": sum(not policy.event(e) for e in here)}
        if kind == "timestamps":
            found = [e.proof for e in here if e.proof] + proofs
            confirmed = sum(any(a[0] == "bitcoin" for a in p.attestations) for p in found)
            entry |= {"valid": len(here) + len(proofs), "confirmed": confirmed, "pending": len(found) - confirmed}
        out.append(entry | {"present": entry["valid"] > 0})
    return out


def judge(r, policy, signer, built):
    for e in r.history.applied if r.history else ():
        r.fail("untrusted", *policy.event(e))
    if signer:
        r.fail("untrusted", *policy.bundle(signer, built))


# ---- 8 Trust

TRUST = {"trust_type": const("pith_trust"), "trust_version": const("1.0"), "signers": array, "key_documents": array}
TRUSTED = {"fingerprint": hexdigits(32), "signer_id": word, "signer_type": word, "event_types": strings, "bundles": boolean,
           "valid_from": null_or(second), "valid_until": null_or(second)}
DOCUMENT = {"document_version": const("1.0"), "signer_id": word, "signer_type": word, "created_at": second,
            "document_sha256": hexdigits(64), "signatures": array}
ROTATION = DOCUMENT | {"document_type": const("pith_key_rotation"), "old_key": obj, "new_key": obj, "valid_from": second,
                       "old_valid_until": second}
REVOCATION = DOCUMENT | {"document_type": const("pith_key_revocation"), "key": obj, "revoked_at": second, "reason": word}


class Policy:
    """The pinned key and trust files, with the rotations resolved."""

    def __init__(self, *files):
        self.signers = {PINNED: {"signer_id": "pith.science", "signer_type": "pith_registry", "event_types": {"*"}, "bundles": True,
                                 "from": None, "until": None, "revoked": None}}
        documents = {}
        for data in files:
            root = read(data)
            if obj(root) and "document_type" in root:
                root = {"trust_type": "pith_trust", "trust_version": "1.0", "signers": [], "key_documents": [root]}
            if not shaped(root, TRUST, closed=True, optional=("key_documents",)):
                raise Refused("trust_file")
            self.add(root["signers"])
            for d in root.get("key_documents", []):
                document(d)
                documents[d["document_sha256"]] = d
        self.resolve(list(documents.values()))

    def add(self, signers):
        seen = set()
        for s in signers:
            if not shaped(s, TRUSTED, closed=True) or s["fingerprint"] in seen:
                raise Refused("trust_file")
            seen.add(s["fingerprint"])
            new = {"signer_id": s["signer_id"], "signer_type": s["signer_type"], "event_types": set(s["event_types"]),
                   "bundles": s["bundles"], "from": when(s["valid_from"]), "until": when(s["valid_until"]), "revoked": None}
            old = self.signers.setdefault(s["fingerprint"], new)
            if any(old[n] != new[n] for n in ("signer_id", "signer_type", "from", "until")):  # 8.4
                raise Refused("trust_file")
            old["event_types"] |= new["event_types"]
            old["bundles"] |= new["bundles"]

    def resolve(self, documents):
        step = {}  # old fingerprint -> (new fingerprint, document)
        for d in documents:
            if d["document_type"] == "pith_key_rotation":
                old, new = public_key(d["old_key"])[0], public_key(d["new_key"])[0]
                if old in step or old == new or any(new == n for n, _ in step.values()):  # 8.10
                    raise Refused("key_rotation")
                step[old] = new, d
        for start in step:
            at, seen = start, set()
            while at in step:
                if at in seen:
                    raise Refused("key_rotation")
                seen.add(at)
                at = step[at][0]
        revoked = {}
        for d in documents:
            if d["document_type"] == "pith_key_revocation":
                f = public_key(d["key"])[0]
                at = when(d["revoked_at"])
                revoked[f] = min(at, revoked.get(f, at))
        named = set(self.signers)
        for f in [f for f in step if f not in {n for n, _ in step.values()}]:  # heads of chains
            while f in step:
                self.rotate(f, *step[f], named, revoked)
                f = step[f][0]
        for d in documents:
            if d["document_type"] == "pith_key_revocation" and (s := self.signers.get(public_key(d["key"])[0])):
                self.agree(s, d)
                s["revoked"] = revoked[public_key(d["key"])[0]]

    def agree(self, s, d):
        if (s["signer_id"], s["signer_type"]) != (d["signer_id"], d["signer_type"]):
            raise Refused("key_rotation")

    def rotate(self, old, new, d, named, revoked):
        s = self.signers.get(old)
        if s is None:
            return
        self.agree(s, d)
        made, end = when(d["created_at"]), when(d["old_valid_until"])
        if (s["from"] and made < s["from"]) or (s["until"] and made > s["until"]) or (old in revoked and made >= revoked[old]):
            raise Refused("key_rotation")
        if new in named:
            self.agree(self.signers[new], d)
        else:
            self.signers[new] = s | {"event_types": set(s["event_types"]), "from": when(d["valid_from"]), "until": None}
        s["until"] = min(s["until"], end) if s["until"] else end  # 8.9

    def key(self, fingerprint, name=None):
        s = self.signers.get(fingerprint)
        known = any(o["signer_id"] == name for o in self.signers.values())
        return s, None if s else "trust_impersonation" if known else "trust_key"  # 8.6

    def dated(self, s, at):
        early, late = s["from"] and at < s["from"], s["until"] and at > s["until"]
        return ["trust_window"] * bool(early or late) + ["trust_revoked"] * bool(s["revoked"] and at >= s["revoked"])

    def event(self, e):
        s, code = self.key(e.fingerprint, e.signer["signer_id"])
        if code:
            return [code]
        name = (s["signer_id"], s["signer_type"]) == (e.signer["signer_id"], e.signer["signer_type"])
        may = {"*", e.type} & s["event_types"]
        return ["trust_name"] * (not name) + ["trust_event_type"] * (not may) + self.dated(s, e.created)

    def bundle(self, fingerprint, built):
        s, code = self.key(fingerprint)
        if code:
            return [code]
        return ["trust_bundle"] * (not s["bundles"]) + (self.dated(s, built) if built else [])


def document(d):  # 8.7, 8.8
    rotation = obj(d) and d.get("document_type") == "pith_key_rotation"
    if not shaped(d, ROTATION if rotation else REVOCATION, closed=True):
        raise Refused("key_document")
    try:
        keys = [(d[n].get("key_id"), *public_key(d[n])) for n in (("old_key", "new_key") if rotation else ("key",))]
    except Refused:
        raise Refused("key_document") from None
    if digest(d, "document_sha256", "signatures") != d["document_sha256"]:
        raise Refused("key_document_sha256")
    if len(d["signatures"]) != len(keys):
        raise Refused("key_document_signature")
    for sig, (name, fingerprint, raw) in zip(d["signatures"], keys):
        if not shaped(sig, DOCUMENT_SIGNATURE, closed=True) or (sig["key_id"], sig["public_key_fingerprint"]) != (name, fingerprint) or signature(sig, d["document_sha256"], {fingerprint: raw}):
            raise Refused("key_document_signature")


# ---- 5.8 Merge of bundles

def merge(bundles):
    """The canonical form of the united bundle, without bundle_signature."""
    roots = []
    for data in bundles:
        r = verify(data, unsigned_too=True)
        if r.verdict in ("rejected", "unreadable"):
            raise Refused(r.failures[0])
        roots.append(read(data))
    if len({sha(canon(b["canonical_record"])) for b in roots}) != 1:
        raise Refused("event_subject")
    record = Record(roots[0]["canonical_record"])
    out = {}
    for name in set().union(*roots) - {"bundle_signature"}:
        out[name] = min((b[name] for b in roots if name in b), key=canon)
    keys = {}
    for b in roots:
        for k in b["public_keys"]:
            f = public_key(k)[0]
            keys[f] = min(k, keys.get(f, k), key=canon)
    out["public_keys"] = [keys[f] for f in sorted(keys)]
    ring = {f: public_key(k)[1] for f, k in keys.items()}
    for name in ("timestamp_proofs", "mirror_hints"):
        every = {canon(v): v for b in roots for v in b[name]}
        out[name] = [every[c] for c in sorted(every)]
    out["source_aliases"] = join_aliases([a for b in roots for a in b["source_aliases"] if good_alias(a, record)])
    every = {canon(v): v for b in roots for v in b["events"]}
    h = History([Event(v, record, ring) for v in every.values()])
    out["events"] = [e.value for e in h.applied + h.invalid]
    out["built_at"] = max(b["built_at"] for b in roots)
    out["state"] = h.state(record, out["source_aliases"])
    union = verify(canon(out), unsigned_too=True)  # 5.12
    if union.verdict in ("rejected", "unreadable"):
        raise Refused(union.failures[0])
    return out, sha(canon(sorted(e.entry for e in h.applied + h.invalid)))
