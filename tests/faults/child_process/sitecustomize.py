"""Python runs this module at its start if this folder is on PYTHONPATH.

Worker processes get the fake runtime, and faults that `FAKE_…` variables name. Supervisors restart children sooner.
"""

import os
import sys

if switch_file := os.environ.get("FAKE_DISK_FULL"):
    import full_disk

    full_disk.simulate_full_disk(switch_file)

if "worker.process" in sys.orig_argv or "maintain" in sys.orig_argv:
    if hours := float(os.environ.get("FAKE_CLOCK_HOURS", "0")):
        import shifted_clock

        shifted_clock.shift_clock(hours)
    if os.environ.get("FAKE_RUNTIME", "on") == "on":
        import fake_runtime

        # Without torch a process starts in a third of the time.
        sys.modules["worker.loading.runtime"] = sys.modules["worker.loading.weights"] = fake_runtime
elif "worker" in sys.orig_argv:
    from worker.supervisor import supervisor

    supervisor.FIRST_RESTART_DELAY_SECONDS = 0.1
    if seconds := float(os.environ.get("FAKE_RESTART_SECONDS", "0")):
        supervisor.restart_delay = lambda _crashes: seconds
