"""`batchmill worker PIPELINE` for the soak, with the fake device if requested; it ends with the soak.

Restarts are fast because workers crash all the time.
"""

import sys

from models.errors import BatchmillError
from models.processes import background
from worker.cli import run, worker_processes
from worker.supervisor import supervisor

FAKE_DEVICE_FLAG = "--own-device"


def main(arguments: list[str]) -> None:
    """Run the command as the command line would."""
    background.exit_with_parent()
    supervisor.MAX_RESTART_DELAY_SECONDS = 1.0
    if FAKE_DEVICE_FLAG in arguments:
        arguments = [argument for argument in arguments if argument != FAKE_DEVICE_FLAG]
        worker_processes.PROCESS = "tests.soak.fake_device"
    try:
        run.worker(arguments)
    except BatchmillError as error:
        print(f"batchmill worker ended: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
