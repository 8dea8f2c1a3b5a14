"""A headless Chromium that takes pictures of pages, spoken to through chromedriver (W3C WebDriver)."""

from __future__ import annotations

import base64
import http.client
import io
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from cluster.launch.local import free_port

FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "hide-scrollbars",
    "force-device-scale-factor=1",
)
COLOURS = 128  # of a picture: pages have few, and the files stay small


class Browser:
    """One window, with a profile that is gone afterwards; a context manager. Needs Debian's chromium-driver."""

    def __init__(self, width: int = 1400, height: int = 800) -> None:
        driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
        if driver is None or chromium is None:
            raise SystemExit("needs Chromium: apt-get install chromium chromium-driver")
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        self._port = free_port()
        self._driver = subprocess.Popen([driver, f"--port={self._port}", "--log-level=OFF"], stdin=subprocess.DEVNULL)
        arguments = [f"--{flag}" for flag in FLAGS]
        arguments += [f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}"]
        options = {"binary": chromium, "args": arguments}
        self._session = ""
        try:
            self._wait_for_driver()
            asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            self._session = str(self._call("POST", "/session", asked)["sessionId"])
        except BaseException:
            self.close()
            raise

    def open(self, url: str) -> None:
        """Go to a page."""
        self._call("POST", f"/session/{self._session}/url", {"url": url})

    def set_cookie(self, name: str, value: str) -> None:
        """Set a cookie of the page's site."""
        self._call("POST", f"/session/{self._session}/cookie", {"cookie": {"name": name, "value": value, "path": "/"}})

    def script(self, text: str, *arguments: str) -> Any:
        """What a function body in JavaScript returns on the page."""
        return self._call("POST", f"/session/{self._session}/execute/sync", {"script": text, "args": arguments})

    def unfold(self, pattern: str) -> None:
        """Click the arrow beside the first text that matches; SystemExit where there is none."""
        script = """
            const [pattern] = arguments;
            const leaves = [...document.querySelectorAll("*")].filter((element) => !element.children.length);
            let found = leaves.find((element) => new RegExp(pattern).test(element.textContent.trim()));
            while (found && !found.querySelector("svg")) found = found.parentElement;
            found?.querySelector("svg").dispatchEvent(new MouseEvent("click", {bubbles: true}));
            return Boolean(found);
        """
        if not self.script(script, pattern):
            raise SystemExit(f"nothing on the page matches {pattern!r}")

    def scroll_to(self, text: str) -> None:
        """Bring the first heading with this text to the top of the window."""
        script = """
            const headings = [...document.querySelectorAll("h1, h2, h3, h4")];
            headings.find((element) => element.textContent.trim() === arguments[0]).scrollIntoView();
            window.scrollBy(0, -120);
        """
        self.script(script, text)

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        """Wait until the page shows a text; SystemExit with what it shows when it does not."""
        deadline = time.monotonic() + seconds
        while text not in (shown := str(self.script("return document.body.innerText"))):
            if time.monotonic() > deadline:
                raise SystemExit(f"the page does not show {text!r} but:\n{shown[:2000]}")
            time.sleep(0.2)

    def picture(self, path: Path) -> None:
        """Write what the window shows as a PNG of few colours."""
        content = base64.b64decode(self._call("GET", f"/session/{self._session}/screenshot"))
        with Image.open(io.BytesIO(content)) as image:
            image.convert("RGB").quantize(COLOURS).save(path, optimize=True)

    def close(self) -> None:
        """End the browser and its driver."""
        if self._session:
            self._call("DELETE", f"/session/{self._session}")
        self._driver.terminate()
        self._driver.wait(10)
        self._profile.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _wait_for_driver(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        finally:
            connection.close()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {value.get('message', value)}")
        return value
