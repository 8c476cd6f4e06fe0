"""`batchmill worker PIPELINE` for the soak: with the soak's own device where it is told so, and never without the soak.

Restarts come fast, since here workers die all the time.
"""

import sys

from models import background
from models.errors import BatchmillError
from worker.cli import run
from worker.supervisor import supervisor
from worker.supervisor.supervisor import Slot

OWN_DEVICE = "--own-device"


def main(arguments: list[str]) -> None:
    """Run the command as the command line would."""
    background.end_with_it()
    supervisor.LONGEST_PAUSE_SECONDS = 1.0
    if OWN_DEVICE in arguments:
        arguments = [argument for argument in arguments if argument != OWN_DEVICE]
        run._slots = lambda pipelines, names: [
            Slot(f"{name}", "tests.soak.device", (",".join(pipelines), name, "1"), named=True) for name in names
        ]
    try:
        run.worker(arguments)
    except BatchmillError as error:
        print(f"batchmill worker ended: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
