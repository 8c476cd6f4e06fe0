"""Benchmarks: Batchmill against what people write without it, on the same work in the same run.

Importing this settles the threads, which must happen before torch is imported.
"""

import os

# Every contestant computes with as many threads, which sleep where they wait: on a shared machine those that spin, as
# they would unasked, starve the ones they wait for.
THREADS = 2
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
