"""Three nights in a shop: one as it should be, one that nobody was there for, and one with a model that is no good.

`make nights`, or `python examples/nightly/run.py [FOLDER]` where Batchmill is installed. The worker and the model are
real, and nobody starts a run by hand; only the clock is set, so that it all takes a minute.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from machine import SPEED, Machine
from shop import Shop, retrained

HERE = Path(__file__).resolve().parent
NIGHTLY = "nightly-tickets"
NOVEL = "I love it, and I'll tell you why. " + "It works, and it works well. " * 120
WIDTH = 100
LABELS = """
SELECT t.id, t.channel, t.status, l.label, l.score, substr(t.body, 1, 60)
FROM tickets t JOIN ticket_labels l ON l.id = CAST(t.id AS TEXT) WHERE t.id % 48 = 7 ORDER BY t.id
"""
COUNTED = """
SELECT count(*), count(l.id), count(DISTINCT l.revision)
FROM tickets t LEFT JOIN ticket_labels l ON l.id = CAST(t.id AS TEXT)
"""


def main(folder: Path) -> None:
    """Live through it all in a folder that is empty."""
    shutil.copy(HERE / "batchmill.toml", folder)
    machine, shop = Machine(folder), Shop(folder / "shop.db")
    thursday(machine, shop)
    friday(machine)
    saturday(machine, shop)
    sunday(machine, shop)
    morning(machine)
    table(shop)


def thursday(machine: Machine, shop: Shop) -> None:
    """The shop has tickets, and the schedule is made."""
    tell(
        "Thursday",
        "The shop has 180 tickets. Every night at two, what is new is to be labelled: batchmill.toml says so.",
    )
    shop.now = machine.set_clock("2026-03-26T10:00+01:00")
    shop.customers_write(179)
    shop.ticket("mail", NOVEL)
    machine.set_clock("2026-03-26T21:00+01:00")
    machine.show("schedule", "sync")
    machine.show("schedule", "show", NIGHTLY)


def friday(machine: Machine) -> None:
    """A night as it should be."""
    tell("Friday, 02:00", "`batchmill up` runs. Nobody tells it what to do.")
    machine.set_clock("2026-03-27T01:59:30+01:00", SPEED)
    machine.run_until_done(NIGHTLY, "2026-03-27")
    machine.show("schedule", "report", NIGHTLY)


def saturday(machine: Machine, shop: Shop) -> None:
    """A night that is missed."""
    tell(
        "Saturday, 02:00",
        "By day there were 50 new tickets, one of them empty; 8 were edited by customers, and 30 closed by clerks.",
        "And now nobody is there: the machine was switched off. At half past eight somebody switches it on.",
    )
    shop.now = machine.set_clock("2026-03-27T09:00+01:00")
    shop.customers_write(49)
    shop.ticket("chat", None)
    for ticket in range(1, 9):
        shop.customer_edits(ticket, "It broke after a day. I am very disappointed.")
    for ticket in range(9, 39):
        shop.clerk_closes(ticket)
    machine.set_clock("2026-03-28T08:30+01:00", SPEED)
    machine.run_until_done(NIGHTLY, "2026-03-28")
    machine.show("schedule", "report", NIGHTLY)


def sunday(machine: Machine, shop: Shop) -> None:
    """A night with another model."""
    tell(
        "Sunday, 02:00",
        "60 new tickets, 20 closed ones; and since the evening, batchmill.toml names another model.",
        "This is the night that has no 02:00: at that moment, clocks are put forward to 03:00.",
    )
    shop.now = machine.set_clock("2026-03-28T11:00+01:00")
    shop.customers_write(60)
    for ticket in range(40, 60):
        shop.clerk_closes(ticket)
    retrained(machine.folder / "retrained")
    machine.take_model("./retrained")
    machine.set_clock("2026-03-29T01:59:30+01:00", SPEED)
    machine.run_until_done(NIGHTLY, "2026-03-29")


def morning(machine: Machine) -> None:
    """What is there to be read, and what is done about it."""
    tell("Sunday, 08:00", "How were the nights?")
    machine.set_clock("2026-03-29T08:00+02:00")
    machine.show("schedule", "ls")
    machine.show("schedule", "history", NIGHTLY)
    machine.show("schedule", "report", NIGHTLY)
    tell("Sunday, 08:15", "So the new model is a grumbler. The old one is brought back, and the night run again.")
    machine.take_model("bundled:sentiment-analysis")
    machine.set_clock("2026-03-29T08:15+02:00", SPEED)
    slot = "2026-03-29T03:00+02:00"
    machine.show("schedule", "backfill", NIGHTLY, "--from", slot, "--to", slot, "--again")
    machine.run_until_done(NIGHTLY, "2026-03-29")
    machine.show("schedule", "history", NIGHTLY)


def table(shop: Shop) -> None:
    """What it was all for."""
    print("\nBeside the tickets, shop.db has their labels now, all of one model:\n")
    for row in shop.rows(LABELS):
        print("{:>4}  {:<6}  {:<8}  {:<8}  {:.2f}  {}".format(*row))
    [(tickets, labels, models)] = shop.rows(COUNTED)
    print(f"\n{tickets} tickets, {labels} of them with a label (one is empty), {models} model")


def tell(when: str, *what: str) -> None:
    """The next part of the story."""
    print("\n" + f"── {when} ".ljust(WIDTH, "─"), *what, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to, an empty one; unset: a temporary one")
    wanted: Path = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="nights-"))
    wanted.mkdir(parents=True, exist_ok=True)
    if any(wanted.iterdir()):
        parser.error(f"{wanted} is not empty")
    try:
        main(wanted.absolute())
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\nIt is all in {wanted}: shop.db, batchmill.toml, and up.log with what the machine logged.")
