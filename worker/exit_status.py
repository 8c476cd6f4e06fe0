"""What a worker process ends with when it can't end in good order; its supervisor reads it."""

import os
import signal

from models.errors import BatchmillError, SchemaMismatch

DEFECT = os.EX_SOFTWARE  # a thread of the engine is gone
HUNG = os.EX_TEMPFAIL  # the watchdog's word
OUTDATED = os.EX_CONFIG  # the tables are of another version: to start again would not help
AT_ONCE = 128 + signal.SIGTERM  # told twice


def status_of(error: BatchmillError) -> int:
    """What a process ends with that one of our errors ended."""
    return OUTDATED if isinstance(error, SchemaMismatch) else error.exit_code
