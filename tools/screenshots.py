"""Takes the pictures of the page and of the report that the documents show: `make screenshots`.

It needs a run with an exported repository and a report.
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.dashboard.browser.running import CHROMIUM, ROOT, given_run, page_over_copy
from tests.dashboard.browser.visit import Visit

OUT = ROOT / "docs" / "page"
REPORT_OUT = ROOT / "docs" / "report"
WIDTHS = {"wide": 1280, "phone": 390}
LIKED = ("Empire Strikes Back, The (1980)", "Raiders of the Lost Ark (1981)", "Star Wars (1977)")
TALLEST = 1650  # pixels
PRIVATE = "One user's lists"  # the title of the pictures that show a rating, which is MovieLens' own
# Without the sign that the script runs, and with an edge, as the documents are as white as the page.
STYLE = """.stStatusWidget { display: none }
body::after { content: ""; position: fixed; inset: 0; z-index: 999999; border: 1px solid #C9C5D4 }"""


def main() -> int:
    given = given_run()
    if not (given / "repository").is_dir():
        print(f"error: {given} has no exported repository; run: make run", file=sys.stderr)
        return 2
    report = given / "report" / "report.html"
    if not report.is_file():
        print(f"error: {report} is missing; run: python -m marquee report", file=sys.stderr)
        return 2
    with page_over_copy(given) as url:
        take(url, report)
    return 0


def take(url: str, report: Path) -> None:
    """Every page and the report at both widths, and the first page in the dark."""
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for kind, width in WIDTHS.items():
            for scheme in ("light", "dark"):
                one = Visit(browser, url, width, scheme, "")
                like(one)
                shoot(one, f"for-you-{kind}" + ("-dark" if scheme == "dark" else ""), width)
                if scheme == "light":
                    for name in ("Rate", "Similar", "Compare", "Data", "Server"):
                        one.go(name)
                        if name == "Rate":
                            rate(one)
                        shoot(one, f"{name.lower()}-{kind}", width)
                one.close()
            shoot_report(browser, report, kind, width)
        browser.close()


def shoot_report(browser: Browser, report: Path, kind: str, width: int) -> None:
    """The beginning of the report."""
    REPORT_OUT.mkdir(parents=True, exist_ok=True)
    page = browser.new_page(viewport={"width": width, "height": TALLEST}, color_scheme="light")
    page.goto(report.resolve().as_uri())
    page.screenshot(path=REPORT_OUT / f"report-{kind}.png", animations="disabled", style=STYLE)
    page.close()


def like(one: Visit) -> None:
    """Some movies that one likes."""
    for title in LIKED:
        field = one.page.get_by_label("Find movies that you like")
        field.fill(title)
        field.press("Enter")
        one.page.get_by_role("button", name=f"Add {title}", exact=True).click()
        one.movies("Movies that you like").get_by_text(title).wait_for()
        one.settle()
    one.page.get_by_label("Find movies that you like").fill("")
    one.page.get_by_label("Find movies that you like").press("Enter")
    one.movies("Movies found").wait_for(state="detached")
    one.settle()


def rate(one: Visit) -> None:
    """Stars for some of the movies that are shown."""
    for place, stars in ((0, 5), (1, 4), (3, 5), (4, 2)):
        one.movies("Movies to rate").get_by_role("listitem").nth(place).locator("label").nth(stars - 1).click()
        one.settle()
    one.page.get_by_text("You have rated 4 movies").wait_for()


def shoot(one: Visit, name: str, width: int) -> None:
    """One picture, of the window as high as its content, up to a limit."""
    one.page.mouse.move(0, 0)
    one.page.evaluate("document.activeElement?.blur()")
    one.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    height = one.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    one.page.set_viewport_size({"width": width, "height": min(height, TALLEST)})
    one.settle()
    private = one.page.get_by_text(PRIVATE).all()
    if tops := [box["y"] for found in private if (box := found.bounding_box())]:
        one.page.set_viewport_size({"width": width, "height": min(height, TALLEST, int(min(tops)) - 32)})
        one.settle()
    one.page.screenshot(path=OUT / f"{name}.png", animations="disabled", style=STYLE)
    one.page.set_viewport_size({"width": width, "height": 860})


if __name__ == "__main__":
    sys.exit(main())
