"""Three nights that embed a shop's tickets, and a search that finds the nearest solved ticket for each new one.

Start it with `make demo-nearest`, or with `python examples/nearest_tickets/run.py [FOLDER]` if Batchmill is installed.
The worker and the model are real, and the schedule starts every run. Only the clock is simulated, so that all takes a
minute. The tickets are in SQLite, or with `--postgres URL` in a PostgreSQL that has pgvector.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from shop import NEW_TICKETS, TicketDatabase, old_tickets

EXAMPLE_FOLDER = Path(__file__).resolve().parent
sys.path.append(str(EXAMPLE_FOLDER.parent / "nightly"))

from deployment import CLOCK_SPEED, Deployment  # noqa: E402  # both examples are deployed alike

SCHEDULE_NAME = "nightly-vectors"
TEXT_WIDTH = 100
NEAREST_COUNT = 2
DIMENSIONS = 32
COUNT_VECTORS = "SELECT count(*), count(DISTINCT embedding_key) FROM ticket_vectors"


def main(folder: Path, shop_url: str) -> None:
    """Play all steps in an empty folder."""
    settings = (EXAMPLE_FOLDER / "batchmill.toml").read_text("utf-8")
    (folder / "batchmill.toml").write_text(settings.replace('"sqlite:///shop.db"', f'"{shop_url}"'), "utf-8")
    deployment, shop = Deployment(folder), TicketDatabase(shop_url)
    solved = old_tickets()
    first_new = len(solved) + 1
    embed_solved_tickets(deployment, shop)
    embed_new_tickets(deployment, shop, first_new)
    print_nearest(shop, first_new)
    change_settings(deployment, folder)
    print_nearest(shop, first_new)


def embed_solved_tickets(deployment: Deployment, shop: TicketDatabase) -> None:
    """Show the first night, with the tickets that there are."""
    solved = old_tickets()
    print_step("Thursday", f"The shop has {len(solved)} solved tickets. batchmill.toml declares a schedule.")
    shop.now = deployment.set_clock("2026-03-26T10:00+01:00")
    shop.insert_tickets(1, solved)
    deployment.set_clock("2026-03-26T21:00+01:00")
    deployment.print_command("schedule", "sync")
    print_step("Friday, 02:00", "`batchmill up` is running. The run embeds all tickets.")
    run_night(deployment, "2026-03-27")


def embed_new_tickets(deployment: Deployment, shop: TicketDatabase, first_new: int) -> None:
    """Show a night that reads new tickets only."""
    print_step("Saturday, 02:00", f"{len(NEW_TICKETS)} tickets are new, and only they are embedded.")
    shop.now = deployment.set_clock("2026-03-27T09:00+01:00")
    shop.insert_tickets(first_new, [(body, None) for body in NEW_TICKETS])
    run_night(deployment, "2026-03-28")


def change_settings(deployment: Deployment, folder: Path) -> None:
    """Show the night after a change of the vectors' settings, which embeds all tickets again."""
    print_step(
        "Sunday, 03:00",
        f"No ticket is new, but batchmill.toml asks for vectors of {DIMENSIONS} numbers now. These can't be compared",
        "with the old ones. All tickets are embedded again, and all vectors change in one transaction.",
    )
    file = folder / "batchmill.toml"
    parameters = "{ normalize = true }", f"{{ normalize = true, dimensions = {DIMENSIONS} }}"
    file.write_text(file.read_text("utf-8").replace(*parameters), "utf-8")
    run_night(deployment, "2026-03-29")


def run_night(deployment: Deployment, day: str) -> None:
    """Run one night, and show how it went."""
    deployment.set_clock(f"{day}T01:59:30+01:00", CLOCK_SPEED)
    deployment.run_until_done(SCHEDULE_NAME, day)
    deployment.print_command("schedule", "history", SCHEDULE_NAME)


def print_nearest(shop: TicketDatabase, first_new: int) -> None:
    """Print the nearest solved tickets of each new one."""
    print("\nThe nearest solved tickets of each new one:")
    last_id = None
    for match in shop.find_nearest(first_new, NEAREST_COUNT):
        if match.new_id != last_id:
            print(f"\n{match.new_id:>4}  {match.new_body}")
        print(f"      {match.similarity:.2f}  {match.old_id:>2}  {match.old_body:<36}  {match.answer}")
        last_id = match.new_id
    [(vectors, kinds)] = shop.query(COUNT_VECTORS)
    print(f"\n{vectors} vectors, made with {kinds} model and settings")


def print_step(time: str, *lines: str) -> None:
    """Print the heading and the text of a step."""
    print("\n" + f"── {time} ".ljust(TEXT_WIDTH, "─"), *lines, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="an empty folder for the example; unset: a temporary one")
    parser.add_argument("--postgres", metavar="URL", help="an empty database with pgvector for the tickets")
    arguments = parser.parse_args()
    folder: Path = arguments.folder or Path(tempfile.mkdtemp(prefix="batchmill-nearest-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    try:
        main(folder.absolute(), arguments.postgres or f"sqlite:///{folder.absolute() / 'shop.db'}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\nEverything is in {folder}: batchmill.toml, the results in home, and up.log with the logs.")
