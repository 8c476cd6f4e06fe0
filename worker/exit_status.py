"""Exit statuses of a worker process that could not shut down normally; its supervisor reads them."""

import os
import signal

from models.errors import BatchmillError, SchemaMismatch

INTERNAL_ERROR = os.EX_SOFTWARE  # a thread of the engine crashed
DEVICE_HUNG = os.EX_TEMPFAIL  # the watchdog ended the process
SCHEMA_OUTDATED = os.EX_CONFIG  # the tables are of another version: a restart would not help
FORCED_SHUTDOWN = 128 + signal.SIGTERM  # a second signal arrived during the shutdown


def exit_status_for(error: BatchmillError) -> int:
    """Return the exit status of a process that this error ends."""
    return SCHEMA_OUTDATED if isinstance(error, SchemaMismatch) else error.exit_code
