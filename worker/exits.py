"""What a worker process ends with when it can't end in good order; its supervisor reads it."""

import os
import signal

DEFECT = os.EX_SOFTWARE  # a thread of the engine is gone
HUNG = os.EX_TEMPFAIL  # the watchdog's word
AT_ONCE = 128 + signal.SIGTERM  # told twice
