"""What a worker process ends with when it can't end in good order; its supervisor reads it."""

import os
import signal

from models.errors import BatchmillError, SchemaMismatch

INTERNAL_ERROR = os.EX_SOFTWARE  # a thread of the engine is gone
DEVICE_HUNG = os.EX_TEMPFAIL  # the watchdog's word
SCHEMA_OUTDATED = os.EX_CONFIG  # the tables are of another version: to start again would not help
FORCED_SHUTDOWN = 128 + signal.SIGTERM  # told twice


def exit_status_for(error: BatchmillError) -> int:
    """What a process ends with that one of our errors ended."""
    return SCHEMA_OUTDATED if isinstance(error, SchemaMismatch) else error.exit_code
