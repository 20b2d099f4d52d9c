"""The Pith record format, read from spec/ alone: canonical form, identity,
signatures, events, replay, state, trust. Standard library and `cryptography`.

It is written to be compared with, not to be fast: every rule stands next to the
number of the paragraph that gives it. Nothing is taken from the Go code.
"""

import base64
import datetime
import hashlib
import json
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import ots

MAX_SIZE, MAX_DEPTH, MAX_VALUES, MAX_NUMBER, MAX_ENTRIES = 16777216, 64, 1048576, 4300, 65536  # 10
PINNED = "8d4b5ee74e4693bcd1df2446408b0d54"  # 8.3
MERGE_VERSION = "pith-open-graph-merge-v1"
EMPTY = "258153158e38e3291e3d48162225fcdb2d5a3ed65a07baac614ab91432fd4f57"  # of {"payload":[]}
LISTS = {t: t[:-1] + "ies" if t.endswith("y") else t + "s" for t in (  # 6.2
    "author_attestation", "timestamp_anchor", "storage_attestation", "citation_signature",
    "replication_record", "correction", "mirror_hint", "graph_snapshot")}


class Refused(Exception):
    """What is not read at all; code is one of 9.5."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


# ---- 1 Canonical form

def canon(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def digest(value, *without):
    """SHA-256 of the canonical form of an object that lacks some members."""
    return sha(canon({k: v for k, v in value.items() if k not in without} if without else value))


def read(data):
    """The value that data holds, or Refused."""
    if len(data) > MAX_SIZE:
        raise Refused("json_size")
    if data.startswith(b"\xef\xbb\xbf"):
        raise Refused("json_byte_order_mark")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("json_invalid_utf8") from None

    def members(pairs):
        out = dict(pairs)
        if len(out) != len(pairs):
            raise Refused("json_duplicate_name")
        return out

    def integer(s):
        if len(s.lstrip("-")) > MAX_NUMBER:
            raise Refused("json_number_length")
        return int(s)

    def binary64(s):
        if len(s.lstrip("-")) > MAX_NUMBER:
            raise Refused("json_number_length")
        f = float(s)
        if f in (float("inf"), float("-inf")):
            raise Refused("json_not_finite")
        return f

    def constant(_):
        raise Refused("json_not_finite")

    decoder = json.JSONDecoder(object_pairs_hook=members, parse_int=integer, parse_float=binary64, parse_constant=constant)
    start = re.match(r"[ \t\n\r]*", text).end()
    try:
        value, end = decoder.raw_decode(text, start)
    except json.JSONDecodeError as e:
        cut = e.pos >= len(text.rstrip(" \t\n\r")) or e.msg.startswith("Unterminated")
        raise Refused("json_truncated" if cut else "json_syntax") from None
    except RecursionError:
        raise Refused("json_depth") from None
    limits(value)
    if text[end:].strip(" \t\n\r"):
        raise Refused("json_trailing_data")
    if len(canon(value)) > MAX_SIZE:
        raise Refused("json_size")
    return value


def limits(root):
    """1.5: depth, number of values, and strings that UTF-8 can write."""
    count, todo = 0, [(root, 1)]
    while todo:
        value, depth = todo.pop()
        count += 1
        if isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                raise Refused("json_depth")
            if isinstance(value, dict):
                for name in value:
                    whole(name)
                value = value.values()
            todo.extend((v, depth + 1) for v in value)
        elif isinstance(value, str):
            whole(value)
    if count > MAX_VALUES:
        raise Refused("json_values")


def whole(s):
    if any("\ud800" <= c <= "\udfff" for c in s):
        raise Refused("json_lone_surrogate")


# ---- Types of members

def text(v): return isinstance(v, str)
def obj(v): return isinstance(v, dict)
def array(v): return isinstance(v, list)
def boolean(v): return isinstance(v, bool)
def anything(v): return True
def strings(v): return array(v) and all(map(text, v))
def positive(v): return type(v) is int and v > 0
def word(v): return text(v) and 1 <= len(v.encode()) <= 256
def prose(v): return text(v) and 1 <= len(v.encode()) <= 16384
def hexdigits(n): return lambda v: text(v) and re.fullmatch("[0-9a-f]{%d}" % n, v) is not None
def const(*values): return lambda v: text(v) and v in values
def null_or(f): return lambda v: v is None or f(v)
def event_id(v): return text(v) and v.startswith("sha256:") and hexdigits(64)(v[7:])
def address(v): return text(v) and len(v.encode()) <= 2048 and v.startswith("https://") and not re.search(r"[\s\x00-\x1f\x7f-\x9f]", v)


def when(s):
    """4.1: a UTC time as something that can be compared, or None."""
    m = text(s) and re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?Z", s)
    if not m:
        return None
    try:
        return datetime.datetime(*map(int, m.groups()[:6])), int((m[7] or "").ljust(9, "0"))
    except ValueError:
        return None


def instant(v): return when(v) is not None
def second(v): return instant(v) and len(v) == 20


def unbase64(s, size=None):
    """3.5: the bytes, or None when s is not their one spelling."""
    try:
        raw = base64.b64decode(s, validate=True)
    except ValueError:
        return None
    return raw if base64.b64encode(raw).decode() == s and size in (None, len(raw)) else None


def shaped(v, fields, closed=False, optional=()):
    return (obj(v) and all(ok(v[n]) if n in v else n in optional for n, ok in fields.items())
            and not (closed and set(v) - set(fields)))


# ---- 2 Identity

METADATA = {"abstract_canon_sha256": hexdigits(64), "cross_cats_sorted": strings, "license": text,
            "primary_cat": word, "submitted_at": second, "title_canon_sha256": hexdigits(64)}
SOURCE = {"id": word, "kind": word, "version": positive}


class Record:
    def __init__(self, value):
        if not (shaped(value, {"schema_version": const("1.0"), "metadata": obj, "source": obj})
                and shaped(value["metadata"], METADATA) and shaped(value["source"], SOURCE)):
            raise Refused("record_shape")
        self.value, self.metadata, self.source = value, value["metadata"], value["source"]
        self.sha256 = digest(value)
        self.proofs = ots.Budget()  # of the bundle that is being read
        self.suffix = base64.b32encode(bytes.fromhex(self.sha256)).decode()[:26]
        self.number = "pith:%s:%s" % (self.metadata["submitted_at"][:4], self.suffix)
        self.aliases = {"pith_short_%d" % n: self.suffix[:n] for n in (8, 12, 16)}  # 6.5
        if self.source["kind"] == "arxiv":
            id = self.source["id"]
            self.aliases.update(arxiv=id, arxiv_version="%sv%d" % (id, self.source["version"]), doi="10.48550/arxiv." + id.lower())


# ---- 3 Signatures, 8.1 keys

KEY = {"key_id": word, "algorithm": const("ed25519"), "format": const("raw"), "public_key_b64": text, "public_key_hex": text,
       "fingerprint_sha256_hex": text, "fingerprint_sha256_b32_first128bits": text}


def signature_fields(label):
    return {"signature_status": const("signed_v1"), "algorithm": const("ed25519"), "key_id": word,
            "public_key_fingerprint": hexdigits(32), "signature_b64": text, "signed_message": const(label), "signed_at": instant}


EVENT_SIGNATURE = signature_fields("open_graph_event_sha256_bytes")
BUNDLE_SIGNATURE = signature_fields("bundle_sha256_bytes") | {"bundle_sha256": hexdigits(64)}
DOCUMENT_SIGNATURE = signature_fields("key_document_sha256_bytes")


def public_key(v):
    """(fingerprint, 32 bytes) of an entry of public_keys, or Refused."""
    if not shaped(v, KEY):
        raise Refused("key_shape")
    raw = unbase64(v["public_key_b64"], 32)
    if raw is None:
        raise Refused("key_forms")
    full = hashlib.sha256(raw).digest()
    if (v["public_key_hex"], v["fingerprint_sha256_hex"], v["fingerprint_sha256_b32_first128bits"]) != (
            raw.hex(), full[:16].hex(), base64.b32encode(full).decode()[:26]):
        raise Refused("key_forms")
    return full[:16].hex(), raw


def signature(sig, sha256hex, keys):
    """Code of the check that fails, or None."""
    raw = keys.get(sig["public_key_fingerprint"])
    if raw is None:
        return "signature_key"
    try:
        good = unbase64(sig["signature_b64"], 64)
        Ed25519PublicKey.from_public_bytes(raw).verify(good or b"", bytes.fromhex(sha256hex))  # 3.4
    except (InvalidSignature, ValueError):
        return "signature"


# ---- 4 Events

EVENT = {"event_type": word, "subject_pith_number": text, "target": word, "payload": obj, "signer": obj, "created_at": instant,
         "supersedes": strings, "prev_event": null_or(word), "schema_version": text, "content_sha256": text, "event_id": text,
         "signature": obj}
SIGNER = {"signer_id": word, "signer_type": word, "key_id": word, "public_key_fingerprint": text}
RECORD_CREATED = {"canonical_record": obj, "canonical_sha256": hexdigits(64), "receipt": obj, "source_kind": word, "source_id": word,
                  "source_version": positive, "attestation_state": word}
RECEIPT = signature_fields("canonical_sha256_bytes") | {
    "kind": const("pith_receipt"), "receipt_version": const("0.3"), "builder_version": word, "canonical_sha256": hexdigits(64),
    "first_computed_at": instant, "last_reissued_at": instant}
GRAPH = {"paper": obj, "claims": obj, "source": obj, "verdict": obj, "references": obj, "formal_canon": obj, "author_claims": obj,
         "builder_version": word}
PAPER = {"title": text, "license": text, "headline": text, "cross_cats": strings, "primary_cat": text, "authors_text": text,
         "submitted_at": instant, "abstract_excerpt": text}
CITING = {"kind": const("pith", "arxiv", "doi", "url"), "id": anything, "title": prose}
RELATIONS = const("supports", "refutes", "extends", "uses_method", "depends_on", "replaces", "compares", "cites")


def orcid(s):
    """ISO 7064 MOD 11-2 over the first 15 digits."""
    if not re.fullmatch("[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]", s):
        return False
    total = 0
    for c in s.replace("-", "")[:15]:
        total = (total + int(c)) * 2
    return "0123456789X"[(12 - total % 11) % 11] == s[-1]


def identity(v):
    if not shaped(v, {"scheme": const("orcid", "email", "x", "apple"), "value": word}):
        return False
    if v["scheme"] == "email":
        return re.fullmatch(r"[^@\s]+@[^@\s]+", v["value"]) is not None
    return v["scheme"] != "orcid" or orcid(v["value"])


def citing(v):
    if not shaped(v, CITING, optional=("title",)):
        return False
    if v["kind"] == "url":
        return address(v["id"])
    return word(v["id"]) and (v["kind"] != "pith" or re.fullmatch("pith:[0-9]{4}:[A-Z2-7]{26}", v["id"]) is not None)


# 4.6 to 4.12: members, and which of them may be absent.
PAYLOADS = {
    "replication_record": ({"claim": obj, "outcome": const("successful", "failed", "mixed", "inconclusive"),
                            "plan_sha256": hexdigits(64), "results_sha256": hexdigits(64)}, ()),
    "author_attestation": ({"name": word, "identity": identity, "position": lambda v: positive(v) and v <= 1000000, "statement": prose}, ("position", "statement")),
    "timestamp_anchor": ({"method": const("opentimestamps"), "of": lambda v: v == "record" or event_id(v),
                          "digest_sha256": hexdigits(64), "proof_b64": text}, ()),
    "storage_attestation": ({"archive": word, "url": address, "stored_at": instant, "content_sha256": hexdigits(64),
                             "media_type": word}, ("content_sha256", "media_type")),
    "citation_signature": ({"relation": RELATIONS, "citing": citing, "claim": word, "statement": prose}, ("claim", "statement")),
    "correction": ({"kind": const("erratum", "clarification", "metadata", "withdrawal", "retraction"), "text": prose, "claim": word,
                    "about": event_id, "url": address}, ("claim", "about", "url")),
    "mirror_hint": ({"name": word, "mirror_type": word, "bundle_url": address, "base_url": address, "state_url": address,
                     "well_known_bundle_url": address, "status": word}, ("base_url", "state_url", "well_known_bundle_url", "status")),
}


def anchor(payload, record):
    """4.8: the first code that fails, and the proof read."""
    want = record.sha256 if payload["of"] == "record" else payload["of"][7:]
    if payload["digest_sha256"] != want:
        return "payload_record", None
    try:
        proof = ots.read(unbase64(payload["proof_b64"]) or b"", record.proofs)
    except ots.Bad:
        return "timestamp_proof", None
    except ots.Spent:
        raise Refused("timestamp_limit") from None
    return (None, proof) if proof.digest.hex() == want and proof.operation == "sha256" else ("timestamp_proof", None)


class Event:
    """One entry of events, asked everything that can be asked of it alone (9.4)."""

    def __init__(self, value, record, keys):
        self.value, self.entry, self.failed, self.notes = value, sha(canon(value)), [], []
        self.id = self.title = self.proof = None
        if not (shaped(value, EVENT) and shaped(value["signer"], SIGNER)):
            self.failed = ["event_shape"]
            return
        self.id, self.type, self.payload, self.prev = value["event_id"], value["event_type"], value["payload"], value["prev_event"]
        self.signer, self.fingerprint = value["signer"], value["signer"]["public_key_fingerprint"]
        self.created, self.supersedes = when(value["created_at"]), value["supersedes"]
        self.keys, self.record = keys, record
        self.ask("event_version", value["schema_version"] == "1.0")
        self.ask("event_subject", value["subject_pith_number"] == record.number)
        content = digest(value, "content_sha256", "event_id", "signature")
        self.ask("event_digest", value["content_sha256"] == content)
        self.ask("event_id", self.id == "sha256:" + content)
        self.note("unknown_member", not set(value) - set(EVENT))
        if self.ask("signature_shape", shaped(value["signature"], EVENT_SIGNATURE, closed=True)):
            self.signed(value["signature"], content)
        self.check_payload()

    reason = property(lambda self: self.failed[0] if self.failed else None)

    def ask(self, code, ok):
        if not ok:
            self.failed.append(code)
        return ok

    def note(self, code, ok):
        if not ok:
            self.notes.append(code)

    def signed(self, sig, sha256hex):
        self.ask("signature_signer", sig["key_id"] == self.signer["key_id"] and sig["public_key_fingerprint"] == self.fingerprint)
        code = signature(sig, sha256hex, self.keys)
        self.ask(code, code is None)

    def check_payload(self):
        p = self.payload
        if self.type == "record_created":
            self.record_created(p)
        elif self.type == "graph_snapshot":
            self.graph_snapshot(p)
        elif self.type in PAYLOADS:
            if p.get("schema") != self.type + "/1":  # 4.5
                self.notes.append("payload_schema")
            elif self.ask("payload_shape", shaped(p, PAYLOADS[self.type][0], optional=PAYLOADS[self.type][1])):
                getattr(self, self.type, lambda p: None)(p)

    def record_created(self, p):
        good = self.ask("payload_shape", self.value["target"] == "record")
        if not self.ask("payload_shape", shaped(p, RECORD_CREATED) and shaped(p["receipt"], RECEIPT)) or not good:
            return
        r, receipt = self.record, p["receipt"]
        self.ask("payload_record", canon([p["canonical_record"], p["canonical_sha256"], p["source_kind"], p["source_id"], p["source_version"]])
                 == canon([r.value, r.sha256, r.source["kind"], r.source["id"], r.source["version"]]))
        self.ask("receipt_digest", receipt["canonical_sha256"] == r.sha256)
        self.signed(receipt, r.sha256)

    def graph_snapshot(self, p):
        good = self.ask("payload_shape", self.value["target"] == "graph")
        graph = p.get("graph_snapshot")
        if not self.ask("payload_shape", shaped(p, {"graph_snapshot": obj, "verdict_id": anything}) and shaped(graph, GRAPH)
                        and shaped(graph["paper"], PAPER)) or not good:
            return
        paper, meta = graph["paper"], self.record.metadata
        self.ask("payload_record", canon(graph["source"]) == canon(self.record.source))
        title = paper["title"]
        if len(title.encode()) > 16384:
            self.failed.append("graph_title")
        elif sha(title.lower().encode()) == meta["title_canon_sha256"]:
            self.title = title
        elif title.isascii():
            self.failed.append("graph_title")
        else:
            self.notes.append("graph_title_unicode")
        excerpt = paper["abstract_excerpt"]
        if len(excerpt) != 600:
            whole = excerpt.replace("\n", " ").strip().lower().encode()
            self.note("graph_abstract", len(excerpt) < 600 and sha(whole) == meta["abstract_canon_sha256"])
        self.note("graph_paper", canon([paper[n] for n in ("license", "primary_cat", "submitted_at", "cross_cats")])
                  == canon([meta[n] for n in ("license", "primary_cat", "submitted_at", "cross_cats_sorted")]))
        for name, count in (("claims", "count"), ("references", "count"), ("author_claims", "count"), ("formal_canon", "evidence_count")):
            part = graph[name]
            if canon(part.get(count)) == b"0":
                self.ask("graph_empty_snapshot", part.get("snapshot_sha256") == EMPTY)
            elif name == "claims" and array(part.get("items")):
                self.note("graph_snapshot_sha256", part.get("snapshot_sha256") == digest({"payload": part["items"]}))

    def timestamp_anchor(self, p):
        code, self.proof = anchor(p, self.record)
        self.ask(code, code is None)

    def storage_attestation(self, p):
        if p["archive"] == "internet_archive":  # 4.9
            m = re.match(r"https://web\.archive\.org/web/([0-9]{14})/.", p["url"])
            self.ask("payload_shape", m and m[1] == re.sub("[-T:]", "", p["stored_at"][:19]))

    def citation_signature(self, p):  # 4.10
        c, r = p["citing"], self.record
        own = {"pith": [r.number]}
        if r.source["kind"] == "arxiv":
            own |= {"arxiv": [r.aliases["arxiv"], r.aliases["arxiv_version"]], "doi": [r.aliases["doi"]]}
        self.ask("payload_record", (c["id"].lower() if c["kind"] == "doi" else c["id"]) not in own.get(c["kind"], []))

    def mirror_hint(self, p):
        self.ask("payload_record", self.record.suffix in p["bundle_url"])


# ---- 5 Merge, 6 State

class History:
    """What a set of events amounts to."""

    def __init__(self, events):
        events = list({e.entry: e for e in events}.values())
        self.invalid, by_id = [e for e in events if e.reason], {}
        for e in events:
            if not e.reason:  # 5.1: of several signatures the earliest, then the smallest entry
                rank = lambda e: (when(e.value["signature"]["signed_at"]), e.entry)
                by_id[e.id] = min(by_id.get(e.id, e), e, key=rank)
        self.applied, self.superseded, self.gaps, waiting = [], set(), [], dict(by_id)
        while waiting:  # 5.2
            ready = [e for e in waiting.values() if not any(i in waiting for i in e.supersedes + [e.prev])]
            if not ready:
                for e in waiting.values():
                    e.failed.append("link_cycle")
                self.invalid += waiting.values()
                break
            e = min(ready, key=lambda e: (e.type != "record_created", e.created, e.id))
            del waiting[e.id]
            self.admit(e, by_id)
        self.invalid.sort(key=lambda e: e.entry)

    def admit(self, e, by_id):
        good = lambda i: i in by_id and not by_id[i].reason
        mine = lambda i: by_id[i].fingerprint == e.fingerprint
        for i in e.supersedes:  # 5.3
            if not good(i) or not mine(i):
                e.failed.append("supersedes_signer" if good(i) else "supersedes_target")
                break
        else:
            if e.prev is not None and not good(e.prev):  # 5.4
                self.gaps.append(e)
            elif e.prev is not None and not mine(e.prev):
                e.failed.append("prev_event_signer")
        if e.reason:
            self.invalid.append(e)
            return
        self.superseded.update(e.supersedes)
        self.applied.append(e)

    def standing(self, type):
        return [e for e in self.applied if e.type == type and e.id not in self.superseded]

    def equivocations(self):  # 5.5, 6.7
        chains, openings = {}, {}
        for e in self.applied:
            if e.prev is not None:
                chains.setdefault((e.fingerprint, e.prev), []).append(e.id)
            if e.type == "record_created":
                openings.setdefault(e.fingerprint, []).append(e)
        entry = lambda kind, fingerprint, prev, ids: {"kind": kind, "public_key_fingerprint": fingerprint, "prev_event": prev, "event_ids": sorted(ids)}
        out = [entry("prev_event", f, p, ids) for (f, p), ids in chains.items() if len(ids) > 1]
        out += [entry("record_created", f, None, [e.id for e in es]) for f, es in openings.items()
                if len({digest(e.payload, "receipt") for e in es}) > 1]
        return sorted(out, key=canon)

    def state(self, record, aliases):
        entry = lambda e: {n: e.value[n] for n in ("created_at", "event_id", "payload", "signer", "target")}
        opened = [entry(e) for e in self.standing("record_created")]
        current = {name: [entry(e) for e in self.standing(type)] for type, name in LISTS.items()}
        current |= {"canonical_record": record.value, "source_aliases": join_aliases(aliases), "record_created": opened[0] if opened else None}
        if len(opened) > 1:
            current["record_reissues"] = opened[1:]  # 6.4
        state = {
            "state_type": "pith_open_graph_state", "state_version": "1.0", "pith_number": record.number, "merge_version": MERGE_VERSION,
            "event_count": len(self.applied) + len(self.invalid), "valid_event_count": len(self.applied),
            "invalid_event_count": len(self.invalid), "equivocation_count": len(self.equivocations()), "current": current,
            "equivocations": self.equivocations(), "invalid_events": [invalid_entry(e) for e in self.invalid],
            "applied_event_ids": [e.id for e in self.applied]}
        return state | {"state_sha256": digest(state)}


def invalid_entry(e):  # 6.6
    claimed = e.value.get("event_id") if obj(e.value) else None
    return {"entry_sha256": e.entry, "event_id": claimed if text(claimed) else None, "reason": e.reason}


ALIAS = {"alias_kind": word, "alias_value": word, "created_at": second}


def good_alias(a, record):
    return shaped(a, ALIAS, closed=True) and record.aliases.get(a["alias_kind"]) == a["alias_value"]


def join_aliases(aliases):  # 6.5
    out = {}
    for a in aliases if array(aliases) else []:
        if shaped(a, {"alias_kind": text, "alias_value": text, "created_at": text}):
            key = a["alias_kind"], a["alias_value"]
            if key not in out or a["created_at"] < out[key]["created_at"]:
                out[key] = a
    return [out[k] for k in sorted(out)]
