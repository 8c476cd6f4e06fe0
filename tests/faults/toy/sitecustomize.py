"""Python runs this at its start where the folder is on PYTHONPATH: worker processes get the toy, and what else is told.

Supervisors start their children again sooner, since a test has no time to lose.
"""

import os
import sys

if switch := os.environ.get("TOY_DISK_FULL"):
    import disk

    disk.simulate_full_disk(switch)

if "worker.process.main" in sys.orig_argv or "maintain" in sys.orig_argv:
    if hours := float(os.environ.get("TOY_CLOCK_HOURS", "0")):
        import clock

        clock.shift_clock(hours)
    if os.environ.get("TOY_MODEL", "toy") == "toy":
        import toy

        sys.modules["worker.loading.runtime"] = toy
elif "worker" in sys.orig_argv:
    from worker.supervisor import supervisor

    supervisor.FIRST_RESTART_DELAY_SECONDS = 0.1
