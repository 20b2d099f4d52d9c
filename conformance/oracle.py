#!/usr/bin/env python3
"""The verdict on one bundle per line: base64 of its bytes in; the verdict under
the pinned policy, a space, and the codes of the failures, with commas, out."""

import base64
import sys

from verify import verify


def main():
    for line in sys.stdin:
        r = verify(base64.b64decode(line))
        print(r.verdict, ",".join(r.failures), flush=True)


if __name__ == "__main__":
    main()
