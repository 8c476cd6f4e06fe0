"""Three runs of a nightly schedule in a shop: a normal one, a missed one, and one with a bad model.

Start it with `make demo-schedule`, or with `python examples/nightly/run.py [FOLDER]` if Batchmill is installed. The
worker and the model are real, and the schedule starts every run. Only the clock is simulated, so that all takes a
minute.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from deployment import CLOCK_SPEED, Deployment
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
    deployment, shop = Deployment(folder), TicketDatabase(folder / "shop.db")
    create_schedule(deployment, shop)
    run_on_time(deployment)
    run_late(deployment, shop)
    run_with_bad_model(deployment, shop)
    review_runs(deployment)
    print_labels(shop)


def create_schedule(deployment: Deployment, shop: TicketDatabase) -> None:
    """Create the shop's tickets and the schedule."""
    print_step(
        "Thursday",
        "The shop has 180 tickets. batchmill.toml declares a schedule that labels new ones every night at two.",
    )
    shop.now = deployment.set_clock("2026-03-26T10:00+01:00")
    shop.insert_tickets(179)
    shop.insert_ticket("mail", LONG_TICKET)
    deployment.set_clock("2026-03-26T21:00+01:00")
    deployment.print_command("schedule", "sync")
    deployment.print_command("schedule", "show", SCHEDULE_NAME)


def run_on_time(deployment: Deployment) -> None:
    """Show a normal run."""
    print_step("Friday, 02:00", "`batchmill up` is running, and starts the run by itself.")
    deployment.set_clock("2026-03-27T01:59:30+01:00", CLOCK_SPEED)
    deployment.run_until_done(SCHEDULE_NAME, "2026-03-27")
    deployment.print_command("schedule", "report", SCHEDULE_NAME)


def run_late(deployment: Deployment, shop: TicketDatabase) -> None:
    """Show a run that is caught up because the machine was off."""
    print_step(
        "Saturday, 02:00",
        "On Friday there were 50 new tickets, one of them empty; customers edited 8, and clerks closed 30.",
        "The machine is off at two, and is switched on at half past eight.",
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
        "60 tickets are new, 20 were closed, and batchmill.toml names another model.",
        "The clocks go forward from 02:00 to 03:00.",
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
    print_step("Sunday, 08:00", "How did the runs go?")
    deployment.set_clock("2026-03-29T08:00+02:00")
    deployment.print_command("schedule", "ls")
    deployment.print_command("schedule", "history", SCHEDULE_NAME)
    deployment.print_command("schedule", "report", SCHEDULE_NAME)
    print_step("Sunday, 08:15", "The new model calls too much NEGATIVE. The old one is restored, and the run repeated.")
    deployment.use_model("bundled:sentiment-analysis")
    deployment.set_clock("2026-03-29T08:15+02:00", CLOCK_SPEED)
    scheduled_at = "2026-03-29T03:00+02:00"
    deployment.print_command("schedule", "backfill", SCHEDULE_NAME, "--time", scheduled_at, "--rerun-completed")
    deployment.run_until_done(SCHEDULE_NAME, "2026-03-29")
    deployment.print_command("schedule", "history", SCHEDULE_NAME)


def print_labels(shop: TicketDatabase) -> None:
    """Print the labels in the output table."""
    print("\nThe table ticket_labels in shop.db has a label for each ticket, all of one model:\n")
    for row in shop.query(SELECT_LABELS):
        print("{:>4}  {:<6}  {:<8}  {:<8}  {:.2f}  {}".format(*row))
    [(tickets, labels, models)] = shop.query(COUNT_LABELS)
    print(f"\n{tickets} tickets, {labels} of them with a label (one is empty), {models} model")


def print_step(time: str, *lines: str) -> None:
    """Print the heading and the text of a step."""
    print("\n" + f"── {time} ".ljust(TEXT_WIDTH, "─"), *lines, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder for the example; unset: a temporary one")
    folder: Path = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="batchmill-schedule-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    try:
        main(folder.absolute())
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\nEverything is in {folder}: shop.db, batchmill.toml, and up.log with the logs.")
