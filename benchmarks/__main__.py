"""`make bench`: every row beside its peer in the same run; the table as text, the rows as JSON."""

from __future__ import annotations

import sys

import msgspec

from anomaly.service.logs import configure
from benchmarks import scorer

configure("warning")
for row in scorer.run():
    print(f"{row.what}: {row.ours_per_s:,.0f} readings/s of one core; {row.peer}: {row.peer_per_s:,.0f}; {row.ratio:.1f}x")
    print(msgspec.json.encode(row).decode(), file=sys.stderr)
