"""The pictures of the viewer in docs/img, from a made-up season: `python -m tests.report.screenshots docs/img`.

`… docs/img STORE RUN NAME` makes NAME.png of one real run in a store's folder instead.
"""

import sys
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from lrm_safety.report.server import ViewServer
from lrm_safety.report.viewer import Viewer
from lrm_safety.store.files import FileStore
from tests.report.chromium import PROGRAM
from tests.report.made_store import bench, fill

PAIR = f"flips?baseline={bench(4)}&candidate={bench(7)}"
SHOTS = {  # name -> address, width, whether dark
    "overview": ("", 1180, False),
    "overview_dark": ("", 1180, True),
    "scorecard": ("runs/recipe-0000000000000007", 1180, False),
    "scorecard_narrow": ("runs/recipe-0000000000000003", 390, True),
    "pareto": ("pareto", 1180, False),
    "flips": (PAIR, 1180, False),
    "samples": (f"samples/{bench(7)}", 1180, False),
    "samples_narrow": (f"samples/{bench(7)}", 390, False),
    "dataset": (f"datasets/safe_mix@{'2' * 16}", 1180, False),
    "cost": ("cost", 1180, False),
}
ELEMENTS = {"axes": "#axes", "funnel": "#dataset", "curves": "#training", "lineage": "#lineage"}


def main(folder: Path, real: str = "", run: str = "", called: str = "") -> None:
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        store = FileStore(Path(real or f"{scratch}/store"))
        shots = {called: (f"runs/{run}", 1180, False)} if real else SHOTS
        if not real:
            fill(store)
        viewer = Viewer(store, Path(scratch) / "view")
        server = ViewServer(viewer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        for name, (address, width, is_dark) in shots.items():
            page = browser.new_page(
                viewport={"width": width, "height": 720 if real else 780}, color_scheme="dark" if is_dark else "light"
            )
            page.goto(server.url + address)
            viewer.library.wait()
            page.goto(server.url + address)
            _prepare(name, page)
            page.screenshot(path=folder / f"{name}.png")
            if name == "scorecard":
                for part, heading in ELEMENTS.items():
                    page.locator(f"section[aria-labelledby={heading[1:]}]").screenshot(path=folder / f"{part}.png")
            page.close()
        browser.close()
        server.shutdown()


def _prepare(name: str, page: Page) -> None:
    if name.startswith(("flips", "samples")):
        page.wait_for_selector(".sample")
    if name == "flips":
        page.select_option("select[name=benchmark]", "xstest")
        expect(page.locator(".head", has_not_text="xstest")).to_have_count(0)
        page.locator(".head").first.click()
        page.locator(".fold.thinking summary").first.click()
        page.locator("h2#samples").scroll_into_view_if_needed()
        page.evaluate("document.querySelector('.head[aria-expanded=true]').scrollIntoView({block: 'center'})")
    if name == "samples":
        page.locator(".head").nth(1).click()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
