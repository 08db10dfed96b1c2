"""A browser that does what it is told, one JSON document per line: the system's Chromium, driven by Playwright.

Each command is answered with one line: {"ok": value} or {"error": text}. The browser belongs to a fresh profile, and
whatever a page logs as an error, or asks of another host, is a problem that the test can ask for.
"""

import json
import pathlib
import sys

import axe_playwright_python
from playwright.sync_api import sync_playwright

AXE = next(pathlib.Path(axe_playwright_python.__file__).parent.rglob("axe.min.js"))
WAIT_MS = 30_000


class Browser:
    def __init__(self, chromium, base):
        self.chromium, self.base = chromium, base
        self.problems, self.page = [], None

    def open(self, path, width=1280, height=900, dark=False):
        """A fresh window on a page of the dashboard."""
        if self.page:
            self.page.context.close()
        scheme = "dark" if dark else "light"
        context = self.chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=False
        )
        self.page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda line: line.type in ("error", "warning") and self.problems.append(line.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.foreign(request.url))
        self.page.goto(self.base + path)

    def foreign(self, url):
        if not url.startswith((self.base, "data:")):
            self.problems.append(f"asks {url}")

    def wait(self, selector):
        """Until something is there: its text."""
        return self.page.locator(selector).first.inner_text()

    def gone(self, selector):
        self.page.locator(selector).first.wait_for(state="detached")

    def press(self, key):
        self.page.keyboard.press(key)

    def fill(self, selector, text):
        self.page.locator(selector).first.fill(text)

    def click(self, selector):
        self.page.locator(selector).first.click()

    def run(self, script):
        """What a script of the test's own says about the page."""
        return self.page.evaluate(script)

    def shot(self, path):
        self.page.screenshot(path=path, full_page=True)

    def violations(self):
        """What axe-core finds serious or critical. It is evaluated by the debugger, which no policy of the page stops."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run().then((result) => result.violations)")
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        return [f'{one["id"]}: {one["nodes"][0]["html"]} {one["nodes"][0]["failureSummary"]}' for one in serious]

    def complaints(self):
        found, self.problems = self.problems, []
        return found


def launch(playwright, executable):
    """Chromium may crash while it starts on a machine without displays and buses; it is then started again."""
    for attempt in range(3):
        try:
            return playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        except Exception:
            if attempt == 2:
                raise


def main():
    executable, base = sys.argv[1:]
    with sync_playwright() as playwright:
        chromium = launch(playwright, executable)
        browser = Browser(chromium, base)
        for line in sys.stdin:
            command = json.loads(line)
            try:
                answer = {"ok": getattr(browser, command.pop("do"))(**command)}
            except Exception as error:  # the test decides what it means
                answer = {"error": str(error)}
            print(json.dumps(answer), flush=True)
        chromium.close()


main()
