"""How long the page takes to answer a click: `python -m tools.click_time`, in the page's environment.

A thumb on *For you*, which asks both networks again: from the click to the changed list, in the browser's own time.
"""

from statistics import median, quantiles

from playwright.sync_api import sync_playwright

from tests.dashboard.browser.running import CHROMIUM, given_run, page_over_copy
from tests.dashboard.browser.visit import Visit

CLICKS = 60
WARM = 5  # clicks that do not count
LIST = "DLRM: recommended movies"
TIMED = """(list) => new Promise((done) => {
  const before = list.innerText;
  const start = performance.now();
  new MutationObserver((_, watch) => {
    if (list.innerText === before) return;
    watch.disconnect();
    done(performance.now() - start);
  }).observe(list, { childList: true, subtree: true });
  list.querySelector("button").click();
})"""


def main() -> None:
    with page_over_copy(given_run()) as url:
        times = measured(url)
    high = quantiles(times, n=20)[-1]
    print(
        f"{len(times)} clicks: median {median(times):.0f} ms, 95th percentile {high:.0f} ms, most {max(times):.0f} ms"
    )


def measured(url: str) -> list[float]:
    """Milliseconds of each click."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        one = Visit(browser, url, 1280, "light", "")
        times = []
        for _ in range(WARM + CLICKS):
            times.append(one.movies(LIST).evaluate(TIMED))
            one.settle()
        browser.close()
    return times[WARM:]


if __name__ == "__main__":
    main()
