"""One person's browser window on the page, and what it has asked for."""

from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, expect

from tests.names import HANG_SECONDS

HANG = 1000.0 * HANG_SECONDS
SETTLED = '[data-testid="stApp"][data-test-script-state="notRunning"]'
LOOPBACK = ("127.0.0.1", "localhost", "")
expect.set_options(timeout=HANG)
# Streamlit's own shell: what lies outside its one landmark, and attributes of its sidebar.
ALLOWED = ("region", "aria-allowed-attr")


class Visit:
    """A session.

    Attributes:
        left_loopback: the URLs that were asked for on other machines.
        errors: what the page's scripts have raised.
    """

    def __init__(self, browser: Browser, url: str, width: int, scheme: str, path: str):
        self.context = browser.new_context(
            viewport={"width": width, "height": 860}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.context.set_default_timeout(HANG)
        self.page = self.context.new_page()
        self.left_loopback: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("websocket", lambda socket: self._note(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}/{path}")
        expect(self.heading).to_be_visible()
        self.settle()

    def _note(self, url: str) -> None:
        if url.startswith(("data:", "blob:")):
            return
        if urlsplit(url).hostname not in LOOPBACK:
            self.left_loopback.append(url)

    @property
    def heading(self) -> Locator:
        """The title of the page that is shown."""
        return self.page.get_by_role("heading", level=1)

    def settle(self) -> None:
        """Waits until the script has run."""
        self.page.wait_for_selector(SETTLED)

    def go(self, name: str) -> None:
        """To another page, by the menu."""
        self.page.locator(".st-key-menu").get_by_role("link", name=name, exact=True).click()
        expect(self.heading).to_have_text(name)
        self.settle()

    def movies(self, name: str) -> Locator:
        """A list of movies."""
        return self.page.get_by_role("list", name=name, exact=True)

    def search(self, field: Locator, words: str) -> None:
        """Types words in the place of what a field holds, and Enter. Not during a drawing, which may move the caret."""
        self.settle()
        field.fill(words)
        field.press("Enter")

    def press_to(self, name: str, inside: str = "") -> None:
        """Presses Tab until what has the focus is called so.

        Args:
            inside: the list of movies that it is to be in; empty for anywhere.
        """
        for _ in range(200):
            self.page.keyboard.press("Tab")
            if self.focused().startswith(name) and inside in ("", self.focused_list()):
                return
        raise AssertionError(f"{name} is not reached by the keyboard")

    def focused(self) -> str:
        """What the element with the focus is called."""
        return self._of_focused("at?.getAttribute('aria-label') || at?.innerText || ''")

    def focused_list(self) -> str:
        """What the list of movies with the focus is called; empty where none has it."""
        return self._of_focused("at?.closest('ol')?.getAttribute('aria-label') || ''")

    def _of_focused(self, wanted: str) -> str:
        """What a JavaScript expression says of `at`, the element with the focus."""
        return self.page.evaluate(
            "(() => { let at = document.activeElement;"
            f" while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement; return {wanted} }})()"
        )

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.page.evaluate(
            "Math.max(document.documentElement.scrollWidth, document.querySelector('[data-testid=stMain]').scrollWidth)"
            " - window.innerWidth"
        )

    def violations(self) -> list[str]:
        """What axe finds, but for Streamlit's own shell."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
            for one in found
            if one["id"] not in ALLOWED
        ]

    def close(self) -> None:
        self.context.close()
