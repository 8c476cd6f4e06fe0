"""Two nights of a hotel that has its guests' notes translated, and the translations labelled.

Start it with `make demo-chain`, or with `python examples/translate_then_classify/run.py [FOLDER]` if Batchmill is
installed. The worker and both models are real, and one schedule starts the other. Only the clock is simulated, so that
all takes less than a minute.
"""

import argparse
import logging
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

EXAMPLE_FOLDER = Path(__file__).resolve().parent
sys.path.append(str(EXAMPLE_FOLDER.parent / "nightly"))
# transformers imports torchao, which warns of kernels for other devices.
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)

for _name in ("torchao", "torch.utils._pytree"):  # transformers imports them, and they warn of other devices
    logging.getLogger(_name).setLevel(logging.ERROR)

from deployment import CLOCK_SPEED, Deployment  # noqa: E402  # all examples are deployed alike
from german_notes import make_classifier  # noqa: E402

TRANSLATIONS, LABELS = "nightly-translations", "nightly-labels"
PIPELINES = ("notes-to-german", "german-notes")
TEXT_WIDTH = 100
FIRST_NOTES = (
    "The hotel is wonderful.",
    "The soup is cold.",
    "The garden is beautiful.",
    "The doctor was very friendly.",
    "My room is small and dark.",
    "The kitchen is clean.",
    "The coffee is bad.",
    "The beach is beautiful.",
)
SECOND_NOTES = ("The cake is delicious.", "The hotel is expensive.", "The bread is fresh.", "The train was late.")
# Each row of the second batch names the row of the first that it was made from.
SELECT_CHAINS = """
SELECT first.custom_id, first.input ->> 'text', first.output -> 0 ->> 'translation_text',
       second.output ->> 'label', second.output ->> 'score'
FROM job_results second
JOIN job_results first ON first.batch_id = second.source_batch_id AND first.position = second.source_position
ORDER BY CAST(first.custom_id AS INTEGER)
"""


def main(folder: Path) -> None:
    """Play both nights in an empty folder."""
    print_step("Thursday", "batchmill.toml declares two schedules; the second one runs after the first.")
    (folder / "batchmill.toml").write_text((EXAMPLE_FOLDER / "batchmill.toml").read_text("utf-8"), "utf-8")
    make_classifier(folder / "german_notes")
    deployment, hotel = Deployment(folder), folder / "hotel.db"
    insert_notes(hotel, FIRST_NOTES, "2026-03-26 12:00:00")
    deployment.set_clock("2026-03-26T21:00+01:00")
    deployment.print_command("schedule", "sync")
    print_step("Friday, 02:00", f"`batchmill up` is running. {len(FIRST_NOTES)} notes are translated, then labelled.")
    run_night(deployment, "2026-03-27")
    print_step("Saturday, 02:00", f"{len(SECOND_NOTES)} notes are new, and only they are translated and labelled.")
    insert_notes(hotel, SECOND_NOTES, "2026-03-27 12:00:00")
    run_night(deployment, "2026-03-28")
    deployment.print_command("schedule", "ls")
    deployment.print_command("schedule", "history", LABELS)
    print_chains(folder / "home" / "batchmill.db")


def insert_notes(file: Path, notes: Sequence[str], made_at: str) -> None:
    """Insert notes of the hotel's guests."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, body TEXT, made_at TEXT)")
        rows = [(note, made_at) for note in notes]
        connection.executemany("INSERT INTO notes (body, made_at) VALUES (?, ?)", rows)


def run_night(deployment: Deployment, day: str) -> None:
    """Run a night until the second schedule has ended."""
    deployment.set_clock(f"{day}T01:59:30+01:00", CLOCK_SPEED)
    deployment.run_until_done(LABELS, day, PIPELINES)


def print_chains(file: Path) -> None:
    """Print each note with its translation and the label of that."""
    print("\nEach note, its translation, and the label of that:\n")
    with closing(sqlite3.connect(file)) as connection:
        for number, note, translation, label, score in connection.execute(SELECT_CHAINS):
            print(f"{number:>3}  {note:<32}{translation:<36}{label:<10}{float(score):.2f}")


def print_step(time: str, *lines: str) -> None:
    """Print the heading and the text of a step."""
    print("\n" + f"── {time} ".ljust(TEXT_WIDTH, "─"), *lines, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder for the example; unset: a temporary one")
    arguments = parser.parse_args()
    folder: Path = arguments.folder or Path(tempfile.mkdtemp(prefix="batchmill-chain-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    try:
        main(folder.absolute())
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\nEverything is in {folder}: batchmill.toml, the results in home, and up.log with the logs.")
