#!/usr/bin/env python3
"""The verdict on one bundle per line: base64 of its bytes and, if a trust file
stands beside the pinned policy, a space and base64 of that in; the verdict, a
space, and the codes of the failures, with commas, out."""

import base64
import sys

from verify import Policy, Refused, verify


def main():
    for line in sys.stdin:
        bundle, *trust = map(base64.b64decode, line.rstrip("\n").split(" "))
        try:
            policy = Policy(*trust)
        except Refused as e:
            print("unreadable", e.code, flush=True)
            continue
        r = verify(bundle, policy)
        print(r.verdict, ",".join(r.failures), flush=True)


if __name__ == "__main__":
    main()
