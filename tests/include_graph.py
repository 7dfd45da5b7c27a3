#!/usr/bin/env python3
"""
tests/include_graph.py - who may include whom: the folders of docs/architecture.md as a table.

Prints each include that the table forbids and ends with status 1 if there is one. That every header compiles
alone is checked by the same build step (see Tree.headers in build.zig).
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Ours. A file belongs to the longest prefix; it may include its own prefix and the ones that are listed.
MAY_INCLUDE = {
    "core/": [],
    "ring/": ["core/"],
    "ssh/": ["core/"],
    "upstream/redis/": ["core/", "ring/", "upstream/redis/record", "upstream/redis/target", "upstream/redis/reply",
                        "upstream/redis/view"],
    "upstream/redis/record": ["core/"],
    "upstream/redis/target": ["core/", "upstream/redis/"],
    "upstream/redis/reply": ["core/", "upstream/redis/"],
    "upstream/redis/view": ["upstream/redis/", "upstream/redis/reply", "upstream/redis/target"],
    "upstream/control/": ["core/", "ring/"],
    "upstream/procd/": ["core/"],
    "upstream/procd/client": ["core/", "ring/", "upstream/procd/"],
    "gateway/": ["core/", "ring/", "ssh/", "upstream/redis/", "upstream/redis/record",
                 "upstream/control/", "upstream/procd/", "upstream/procd/client"],
    "procd/": ["core/", "upstream/procd/"],
    "control/": ["core/", "control/redis_link", "control/publish_redis"],
    "control/redis_conn": ["core/", "control/", "upstream/redis/target", "upstream/redis/reply"],
    "control/redis_link": ["core/", "control/", "control/redis_conn", "upstream/redis/view"],
    "control/publish_redis": ["core/", "control/", "control/redis_link", "upstream/redis/record"],
    "bench/": ["core/", "ring/", "ssh/"],
    "tests/": None,  # anything
}

# Third-party headers that belong to one place. A name ending in / is a folder.
ONLY_IN = {
    "liburing.h": ["ring/"],
    "libssh/": ["ssh/", "bench/client"],
    "config.h": ["ssh/", "bench/client"],  # libssh's
    "openssl/": ["ssh/", "upstream/redis/", "control/redis_"],
    "hiredis/": ["upstream/redis/", "control/redis_", "control/publish_redis"],
    "msgpack.h": ["upstream/procd/", "upstream/redis/"],
    "msgpack/": ["upstream/procd/", "upstream/redis/"],
    "curl/": ["upstream/control/"],
    "microhttpd.h": ["control/"],
    "sqlite3.h": ["control/store_sqlite"],
    "libpq-fe.h": ["control/store_postgres"],
    "jansson.h": ["upstream/control/", "control/", "gateway/status"],
    "yaml.h": ["core/yaml"],
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.M)


def owner(path):
    """The entry of MAY_INCLUDE that a path belongs to, or None."""
    return max((p for p in MAY_INCLUDE if path.startswith(p)), key=len, default=None)


def complaint(path, included, is_quoted):
    """Why this file must not include that, or None."""
    third = next((n for n in ONLY_IN if included == n or (n.endswith("/") and included.startswith(n))), None)
    if third and not path.startswith("tests/"):
        if not any(path.startswith(place) for place in ONLY_IN[third]):
            return f"{third} belongs to {', '.join(ONLY_IN[third])}"
        return None
    if third or not is_quoted:
        return None
    if included.endswith(".c"):
        return "a .c file is not included"
    if path.startswith("tests/") and os.path.exists(os.path.join(ROOT, os.path.dirname(path), included)):
        return None  # a test's helper beside it
    target = owner(included)
    if not target or not os.path.exists(os.path.join(ROOT, included)):
        return "no such file of ours (paths start at the root of the checkout)"
    mine = owner(path)
    allowed = MAY_INCLUDE[mine]
    if allowed is None or target == mine or target in allowed:
        return None
    return f"{mine} may include only {', '.join([mine, *allowed])}"


def sources():
    for folder in sorted({p.split("/")[0] for p in MAY_INCLUDE}):
        for parent, _, names in os.walk(os.path.join(ROOT, folder)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(parent, name), ROOT)


def main():
    bad = count = 0
    for path in sources():
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            text = f.read()
        for match in INCLUDE.finditer(text):
            count += 1
            included = match.group(1) or match.group(2)
            why = complaint(path, included, match.group(1) is not None)
            if why:
                bad += 1
                line = text.count("\n", 0, match.start()) + 1
                print(f"{path}:{line}: includes {included}: {why}")
    if bad:
        print(f"{bad} of {count} includes are not allowed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
