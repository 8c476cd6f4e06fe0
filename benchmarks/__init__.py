"""Benchmarks that compare Batchmill with hand-written alternatives, on the same work in the same run.

Importing this package sets the thread counts, which must happen before torch is imported.
"""

import os

# Every candidate computes with the same number of threads, and idle threads sleep. By default they would spin, and on a
# shared machine spinning threads starve those that work.
THREADS = 2
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
