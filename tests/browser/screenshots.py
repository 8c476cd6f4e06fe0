"""Writes the pictures of the pages to docs/images: `make screenshots`."""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.showcase import REVIEWS, showcase

FOLDER = Path(__file__).parents[2] / "docs" / "images"
VIEWPORT, SCALE, COLOURS, MAX_BYTES = {"width": 1280, "height": 800}, 1.5, 256, 150_000


def main() -> None:
    """Take all pictures."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, showcase(Path(folder)) as (address, running, failed):
        pages = {
            "overview": "/",
            "batch": f"/batches/{running}",
            "failures": f"/batches/{failed}#failures",
            "batches": "/batches",
            "schedules": "/schedules/nightly-tickets",
            "submit": f"/submit?pipeline={REVIEWS}",
        }
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            for name, page in pages.items():
                take(browser, f"{address}{page}", FOLDER / f"{name}.png", "light")
            take(browser, f"{address}/", FOLDER / "overview-dark.png", "dark")
            browser.close()


def take(browser: Browser, address: str, path: Path, scheme: str) -> None:
    """Take one picture, with as few colours as it needs."""
    page = browser.new_page(
        viewport=VIEWPORT, device_scale_factor=SCALE, color_scheme=scheme, locale="en-GB", timezone_id="Europe/Berlin"
    )
    page.goto(address)
    page.wait_for_timeout(1_500)  # the parts of the stream, and charts
    anonymise(page)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colours in (COLOURS, COLOURS // 2, COLOURS // 4):
        # Dots keep their colour, and the background too.
        picture.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=1).save(path, optimize=True)
        if path.stat().st_size < MAX_BYTES:
            break
    page.close()


def anonymise(page: Page) -> None:
    """Leave out the commit, which is another with each picture."""
    page.evaluate(
        "document.querySelectorAll('.version').forEach((it) => { it.textContent = it.textContent.split('+')[0]; })"
    )


if __name__ == "__main__":
    main()
