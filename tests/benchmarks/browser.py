"""Chromium without a window, asked over its own protocol: how long a page takes, how it looks."""

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from websockets.sync.client import ClientConnection, connect

# Width, height, whether it is a phone, and how many times slower its processor is.
SIZES = {"laptop": (1366, 768, False, 1), "phone, 4 x slower": (390, 844, True, 4)}
# What the navigation's own record says; its last field is the end of loading.
TIMES = """JSON.stringify((() => {
  const of = performance.getEntriesByType('navigation')[0];
  const seen = performance.getEntriesByName('first-contentful-paint')[0];
  return {'can be used': of.domInteractive, loaded: of.loadEventEnd, painted: seen.startTime};
})())"""


@contextmanager
def browser() -> Iterator[int]:
    """The port of a running Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise SystemExit("no chromium on the path: apt-get install chromium")
    with tempfile.TemporaryDirectory() as home:
        asked = [found, "--headless=new", "--no-sandbox", "--disable-gpu",
                 "--remote-debugging-port=0", f"--user-data-dir={home}", "about:blank"]  # fmt: skip
        ran = subprocess.Popen(asked, stderr=subprocess.PIPE, text=True)
        assert ran.stderr is not None
        try:
            said = next(each for each in ran.stderr if "DevTools listening on" in each)
            yield int(said.split(":")[2].split("/")[0])
        finally:
            ran.terminate()
            ran.wait(20)


class Page:
    """A tab: commands go out, and events are waited for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._ids = socket, count(1)

    def do(self, method: str, **how: Any) -> dict[str, Any]:
        at = next(self._ids)
        self._socket.send(json.dumps({"id": at, "method": method, "params": how}))
        return next(each["result"] for each in self._heard() if each.get("id") == at)

    def until(self, event: str) -> None:
        next(each for each in self._heard() if each.get("method") == event)

    def value(self, script: str) -> Any:
        told = self.do("Runtime.evaluate", expression=script, awaitPromise=True)
        return told["result"].get("value")

    def _heard(self) -> Iterator[dict[str, Any]]:
        while True:
            yield json.loads(self._socket.recv(timeout=60))


@contextmanager
def tab(port: int, size: str, *, dark: bool = False) -> Iterator[Page]:
    """A new tab of one of the `SIZES`."""
    wide, high, phone, slower = SIZES[size]
    fresh = Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
    with urlopen(fresh) as answer:
        told = json.load(answer)
    with connect(told["webSocketDebuggerUrl"], max_size=None) as socket:
        page = Page(socket)
        page.do("Page.enable")
        page.do(
            "Emulation.setDeviceMetricsOverride",
            width=wide, height=high, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        page.do("Emulation.setCPUThrottlingRate", rate=slower)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.do("Emulation.setEmulatedMedia", features=[scheme])
        yield page


def opened(port: int, url: str, size: str) -> dict[str, float]:
    """Milliseconds from asking for a page, as the browser noted them, and its elements."""
    with tab(port, size) as page:
        page.do("Page.navigate", url=url)
        page.until("Page.loadEventFired")
        page.value("new Promise(done => requestAnimationFrame(() => setTimeout(done, 200)))")
        return json.loads(page.value(TIMES))


def pictured(port: int, url: str, size: str, path: Path, *, dark: bool = False) -> int:
    """A picture of a whole page; how many pixels of it stand beyond the right edge."""
    with tab(port, size, dark=dark) as page:
        page.do("Page.navigate", url=url)
        page.until("Page.loadEventFired")
        beyond = int(page.value("document.documentElement.scrollWidth - window.innerWidth"))
        shot = page.do("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        return beyond
