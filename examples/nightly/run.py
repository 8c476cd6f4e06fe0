"""Three runs of a nightly schedule in a shop: a normal one, a missed one, and one with a bad model.

Start it with `make nights`, or with `python examples/nightly/run.py [FOLDER]` if Batchmill is installed. The worker and
the model are real, and the schedule starts every run. Only the clock is simulated, so that all takes a minute.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from machine import CLOCK_SPEED, Deployment
from shop import TicketDatabase, write_bad_model

EXAMPLE_FOLDER = Path(__file__).resolve().parent
SCHEDULE_NAME = "nightly-tickets"
LONG_TICKET = "I love it, and I'll tell you why. " + "It works, and it works well. " * 120
TEXT_WIDTH = 100
SELECT_LABELS = """
SELECT t.id, t.channel, t.status, l.label, l.score, substr(t.body, 1, 60)
FROM tickets t JOIN ticket_labels l ON l.id = t.id WHERE t.id % 48 = 7 ORDER BY t.id
"""
COUNT_LABELS = """
SELECT count(*), count(l.id), count(DISTINCT l.revision)
FROM tickets t LEFT JOIN ticket_labels l ON l.id = t.id
"""


def main(folder: Path) -> None:
    """Play all steps in an empty folder."""
    shutil.copy(EXAMPLE_FOLDER / "batchmill.toml", folder)
    machine, shop = Deployment(folder), TicketDatabase(folder / "shop.db")
    create_schedule(machine, shop)
    run_normal_night(machine)
    run_missed_night(machine, shop)
    run_with_bad_model(machine, shop)
    review_runs(machine)
    print_labels(shop)


def create_schedule(deployment: Deployment, shop: TicketDatabase) -> None:
    """Create the shop's tickets and the schedule."""
    print_step(
        "Thursday",
        "The shop has 180 tickets. Every night at two, what is new is to be labelled: batchmill.toml says so.",
    )
    shop.now = deployment.set_clock("2026-03-26T10:00+01:00")
    shop.insert_tickets(179)
    shop.insert_ticket("mail", LONG_TICKET)
    deployment.set_clock("2026-03-26T21:00+01:00")
    deployment.print_command("schedule", "sync")
    deployment.print_command("schedule", "show", SCHEDULE_NAME)


def run_normal_night(deployment: Deployment) -> None:
    """Show a normal run."""
    print_step("Friday, 02:00", "`batchmill up` runs. Nobody tells it what to do.")
    deployment.set_clock("2026-03-27T01:59:30+01:00", CLOCK_SPEED)
    deployment.run_until_done(SCHEDULE_NAME, "2026-03-27")
    deployment.print_command("schedule", "report", SCHEDULE_NAME)


def run_missed_night(deployment: Deployment, shop: TicketDatabase) -> None:
    """Show a run that is caught up because the machine was off."""
    print_step(
        "Saturday, 02:00",
        "By day there were 50 new tickets, one of them empty; 8 were edited by customers, and 30 closed by clerks.",
        "And now nobody is there: the machine was switched off. At half past eight somebody switches it on.",
    )
    shop.now = deployment.set_clock("2026-03-27T09:00+01:00")
    shop.insert_tickets(49)
    shop.insert_ticket("chat", None)
    for ticket in range(1, 9):
        shop.edit_ticket(ticket, "It broke after a day. I am very disappointed.")
    for ticket in range(9, 39):
        shop.close_ticket(ticket)
    deployment.set_clock("2026-03-28T08:30+01:00", CLOCK_SPEED)
    deployment.run_until_done(SCHEDULE_NAME, "2026-03-28")
    deployment.print_command("schedule", "report", SCHEDULE_NAME)


def run_with_bad_model(deployment: Deployment, shop: TicketDatabase) -> None:
    """Show a run with another, bad model."""
    print_step(
        "Sunday, 02:00",
        "60 new tickets, 20 closed ones; and since the evening, batchmill.toml names another model.",
        "This is the night that has no 02:00: at that moment, clocks are put forward to 03:00.",
    )
    shop.now = deployment.set_clock("2026-03-28T11:00+01:00")
    shop.insert_tickets(60)
    for ticket in range(40, 60):
        shop.close_ticket(ticket)
    write_bad_model(deployment.folder / "retrained")
    deployment.use_model("./retrained")
    deployment.set_clock("2026-03-29T01:59:30+01:00", CLOCK_SPEED)
    deployment.run_until_done(SCHEDULE_NAME, "2026-03-29")


def review_runs(deployment: Deployment) -> None:
    """Review the runs, and repeat the one with the bad model."""
    print_step("Sunday, 08:00", "How were the nights?")
    deployment.set_clock("2026-03-29T08:00+02:00")
    deployment.print_command("schedule", "ls")
    deployment.print_command("schedule", "history", SCHEDULE_NAME)
    deployment.print_command("schedule", "report", SCHEDULE_NAME)
    print_step("Sunday, 08:15", "So the new model is a grumbler. The old one is brought back, and the night run again.")
    deployment.use_model("bundled:sentiment-analysis")
    deployment.set_clock("2026-03-29T08:15+02:00", CLOCK_SPEED)
    scheduled_at = "2026-03-29T03:00+02:00"
    deployment.print_command(
        "schedule", "backfill", SCHEDULE_NAME, "--from", scheduled_at, "--to", scheduled_at, "--rerun-completed"
    )
    deployment.run_until_done(SCHEDULE_NAME, "2026-03-29")
    deployment.print_command("schedule", "history", SCHEDULE_NAME)


def print_labels(shop: TicketDatabase) -> None:
    """Print the labels in the output table."""
    print("\nBeside the tickets, shop.db has their labels now, all of one model:\n")
    for row in shop.query(SELECT_LABELS):
        print("{:>4}  {:<6}  {:<8}  {:<8}  {:.2f}  {}".format(*row))
    [(tickets, labels, models)] = shop.query(COUNT_LABELS)
    print(f"\n{tickets} tickets, {labels} of them with a label (one is empty), {models} model")


def print_step(when: str, *what: str) -> None:
    """Print the heading and the text of a step."""
    print("\n" + f"── {when} ".ljust(TEXT_WIDTH, "─"), *what, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder for the example; unset: a temporary one")
    wanted: Path = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="nights-"))
    wanted.mkdir(parents=True, exist_ok=True)
    if any(wanted.iterdir()):
        parser.error(f"{wanted} is not empty")
    try:
        main(wanted.absolute())
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\nIt is all in {wanted}: shop.db, batchmill.toml, and up.log with what the machine logged.")
