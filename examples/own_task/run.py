"""Make the model, run a worker for the task, submit tickets, and print what it finds in them.

pip install ./examples/own_task
python examples/own_task/run.py [FOLDER]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
TICKETS = [
    {"subject": "Parcel", "body": "<p>My parcel is late again. #StillWaiting</p>"},
    {"body": "The refund was quick and easy &ndash; thank you!"},
    {"body": "My login has a question about the #reset_link"},
    {"body": "<style>b { color: red }</style>"},
]


def main(folder: Path) -> None:
    """Run the example in a folder."""
    sys.path.insert(0, str(EXAMPLE))  # for make_model
    from make_model import make_model

    make_model(folder / "model")
    shutil.copy(EXAMPLE / "batchmill.toml", folder)
    for name in [name for name in os.environ if name.startswith("BATCHMILL_")]:
        del os.environ[name]  # no setting of yours is used, such as a database
    os.environ |= {"BATCHMILL_HOME": str(folder / "home"), "BATCHMILL_CONFIG": str(folder / "batchmill.toml")}
    # With this option, `batchmill up` ends when its standard input is closed.
    up = ("up", "--pipelines", "triage", "--no-serve", "--exit-with-parent")
    command = [sys.executable, "-P", "-m", "batchmill", *up]
    with (
        (folder / "up.log").open("w") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log) as process,
    ):
        try:
            while "model.loaded" not in (folder / "up.log").read_text("utf-8"):
                if process.poll() is not None:
                    sys.exit(f"`batchmill up` has ended; {folder / 'up.log'} says why")
                time.sleep(0.1)
            print_results()
        finally:
            process.communicate()


def print_results() -> None:
    """Submit the tickets and print their results."""
    from batchmill import Client

    with Client() as client:
        batch = client.submit("triage", TICKETS)
        batch.wait(timeout=120)
        for row in sorted(batch.results(), key=lambda row: row.position):
            body = TICKETS[row.position]["body"]
            if row.output is None:
                print(f"{body:<50}  {row.error_code}: {row.error_message}")
            else:
                print(f"{body:<50}  {row.output['topic']:<8}  {row.output['mood']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder for the example; unset: a temporary one")
    chosen: Path = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="batchmill-own-task-"))
    chosen.mkdir(parents=True, exist_ok=True)
    if any(chosen.iterdir()):
        parser.error(f"{chosen} is not empty")
    main(chosen.absolute())
    print(f"\nEverything is in {chosen}: batchmill.toml, model, the results in home, and up.log with the logs.")
