"""Start a worker process: `python -m worker.process PIPELINES DEVICE THREADS WORKER_ID`."""

import gc


def start() -> None:
    """Import everything that a worker process needs, and run it."""
    # The imports leave a million objects and no garbage. Looking for it took a fifth of the time until the first load.
    gc.disable()
    from worker.process import main

    gc.freeze()
    gc.enable()
    main.run_process()


if __name__ == "__main__":
    start()
