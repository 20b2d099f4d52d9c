"""OpenTimestamps proofs by spec/11-timestamps.md: parse them and compute the
messages that their attestations are about."""

import hashlib
import re
import struct

MAGIC = bytes.fromhex("004f70656e54696d657374616d7073000050726f6f6600bf89e2e884e89294")
HASHES = {2: ("sha1", 20), 3: ("ripemd160", 20), 8: ("sha256", 32), 0x67: ("keccak256", 32)}
PENDING, BITCOIN = bytes.fromhex("83dfe30d2ef90c8e"), bytes.fromhex("0588960d73d71901")
MAX_FILE, MAX_NODES, MAX_DEPTH, MAX_MESSAGE, MAX_HELD = 65536, 4096, 255, 4096, 262144
ALL_NODES, ALL_HELD = 262144, 16777216


class Bad(Exception):
    """Not a proof by section 11."""


class Spent(Exception):
    """The proofs of a bundle are more than it may have together (11.5)."""


class Budget:
    """What the proofs of one bundle may still cost."""

    def __init__(self):
        self.nodes, self.held = ALL_NODES, ALL_HELD

    def spend(self, nodes, held):
        self.nodes -= nodes
        self.held -= held
        if self.nodes < 0 or self.held < 0:
            raise Spent


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Bad("truncated")
        self.at += n
        return self.data[self.at - n:self.at]

    def varuint(self):
        out = shift = 0
        while True:
            b = self.take(1)[0]
            out |= (b & 127) << shift
            shift += 7
            if out >= 1 << 64 or shift > 70:
                raise Bad("varuint")
            if b < 128:
                return out

    def varbytes(self, low, high):
        n = self.varuint()
        if not low <= n <= high:
            raise Bad("length")
        return self.take(n)

    def end(self):
        if self.at != len(self.data):
            raise Bad("trailing")


class Proof:
    """digest, the operation that made it, and attestations as (kind, detail, message)."""

    def __init__(self, data, budget):
        self.budget = budget
        if len(data) > MAX_FILE or not data.startswith(MAGIC):
            raise Bad("magic")
        self.reader, self.attestations, self.nodes, self.held = Reader(data), [], 0, 0
        self.reader.take(len(MAGIC))
        if self.reader.varuint() != 1:
            raise Bad("version")
        self.operation, size = HASHES.get(self.reader.take(1)[0]) or self.bad()
        self.digest = self.reader.take(size)
        self.timestamp(self.digest, 0)
        self.reader.end()

    def bad(self):
        raise Bad("tag")

    def timestamp(self, message, depth):
        tag = self.reader.take(1)[0]
        while tag == 0xff:
            self.entry(self.reader.take(1)[0], message, depth)
            tag = self.reader.take(1)[0]
        self.entry(tag, message, depth)

    def entry(self, tag, message, depth):
        self.nodes += 1
        self.budget.spend(1, 0)
        if self.nodes > MAX_NODES:
            raise Bad("size")
        if tag == 0:
            kind = self.reader.take(8)
            payload = Reader(self.reader.varbytes(0, 8192))
            if kind == PENDING:
                uri = payload.varbytes(0, 1000)
                if not re.fullmatch(rb"[A-Za-z0-9\-._/:]*", uri):
                    raise Bad("address")
                self.attestations.append(("pending", uri.decode(), message))
            elif kind == BITCOIN:
                self.attestations.append(("bitcoin", payload.varuint(), message))
            else:
                self.attestations.append(("unknown", kind.hex(), message))
                return
            payload.end()
            return
        if depth >= MAX_DEPTH:
            raise Bad("depth")
        message = self.apply(tag, message)
        self.held += len(message)
        self.budget.spend(0, len(message))
        if self.held > MAX_HELD:
            raise Bad("size")
        self.timestamp(message, depth + 1)

    def apply(self, tag, message):
        if tag in (0xf0, 0xf1):
            arg = self.reader.varbytes(1, MAX_MESSAGE)
            out = message + arg if tag == 0xf0 else arg + message
        elif tag == 0xf2:
            out = message[::-1]
        elif tag == 0xf3:
            if len(message) > MAX_MESSAGE // 2:
                raise Bad("hexlify")
            out = message.hex().encode()
        elif tag in HASHES:
            out = {"sha1": sha1, "sha256": sha256, "ripemd160": ripemd160, "keccak256": keccak256}[HASHES[tag][0]](message)
        else:
            raise Bad("tag")
        if not 0 < len(out) <= MAX_MESSAGE:
            raise Bad("message")
        return out


def read(data, budget=None):
    return Proof(data, budget or Budget())


def sha1(m): return hashlib.sha1(m).digest()
def sha256(m): return hashlib.sha256(m).digest()


def keccak256(m):
    """Keccak as submitted to the SHA-3 competition: padding 01, not 06."""
    mask = (1 << 64) - 1
    rol = lambda v, n: ((v << n) | (v >> (64 - n))) & mask if n else v
    m += b"\x01" + bytes(-(len(m) + 1) % 136)
    m = m[:-1] + bytes([m[-1] | 128])
    a = [[0] * 5 for _ in range(5)]
    for block in range(0, len(m), 136):
        for i, lane in enumerate(struct.unpack_from("<17Q", m, block)):
            a[i % 5][i // 5] ^= lane
        lfsr = 1
        for _ in range(24):
            c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
            for x in range(5):
                for y in range(5):
                    a[x][y] ^= c[x - 1] ^ rol(c[(x + 1) % 5], 1)
            x, y, current = 1, 0, a[1][0]  # rho and pi
            for t in range(24):
                x, y = y, (2 * x + 3 * y) % 5
                current, a[x][y] = a[x][y], rol(current, (t + 1) * (t + 2) // 2 % 64)
            for y in range(5):  # chi
                row = [a[x][y] for x in range(5)]
                for x in range(5):
                    a[x][y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5] & mask)
            for j in range(7):  # iota
                if lfsr & 1:
                    a[0][0] ^= 1 << ((1 << j) - 1)
                lfsr = (lfsr << 1) ^ (0x171 if lfsr & 128 else 0)
    return struct.pack("<4Q", *(a[i][0] for i in range(4)))


def ripemd160(m):
    """RIPEMD-160, which OpenSSL 3 no longer offers by default."""
    r1 = [list(range(16)), [7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8]]
    rho = r1[1]
    for _ in range(3):
        r1.append([rho[i] for i in r1[-1]])
    left = [r1[0]] + r1[1:2] + r1[2:5]
    right = [[(9 * i + 5) % 16 for i in range(16)]]
    for _ in range(4):
        right.append([rho[i] for i in right[-1]])
    shifts = [[11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8], [12, 13, 11, 15, 6, 9, 9, 7, 12, 15, 11, 13, 7, 8, 7, 7],
              [13, 15, 14, 11, 7, 7, 6, 8, 13, 14, 13, 12, 5, 5, 6, 9], [14, 11, 12, 14, 8, 6, 5, 5, 15, 12, 15, 14, 9, 9, 8, 6],
              [15, 12, 13, 13, 9, 5, 8, 6, 14, 11, 12, 11, 8, 6, 5, 5]]
    f = [lambda x, y, z: x ^ y ^ z, lambda x, y, z: x & y | ~x & z, lambda x, y, z: (x | ~y) ^ z, lambda x, y, z: x & z | y & ~z,
         lambda x, y, z: x ^ (y | ~z)]
    kl = [0, 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xa953fd4e]
    kr = [0x50a28be6, 0x5c4dd124, 0x6d703ef3, 0x7a6d76e9, 0]
    mask = 0xffffffff
    rol = lambda v, n: ((v & mask) << n | (v & mask) >> (32 - n)) & mask
    h = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]
    m += b"\x80" + bytes(-(len(m) + 9) % 64) + struct.pack("<Q", 8 * len(m))
    for block in range(0, len(m), 64):
        x = struct.unpack_from("<16I", m, block)
        lines = []
        for order, k, functions in ((left, kl, f), (right, kr, f[::-1])):
            a, b, c, d, e = h
            for j in range(5):
                for i in range(16):
                    word = order[j][i]
                    t = rol(a + functions[j](b, c, d) + x[word] + k[j], shifts[j][word]) + e & mask
                    a, e, d, c, b = e, d, rol(c, 10), b, t
            lines.append((a, b, c, d, e))
        (a, b, c, d, e), (aa, bb, cc, dd, ee) = lines
        h = [h[1] + c + dd & mask, h[2] + d + ee & mask, h[3] + e + aa & mask, h[4] + a + bb & mask, h[0] + b + cc & mask]
    return struct.pack("<5I", *h)
