"""A headless Chromium, driven through a pipe with the DevTools protocol: no server, port or package is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # a test picture, and consent
QUIET = ("--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--mute-audio")


class Page:
    """A tab: `evaluate` runs JavaScript in it, `events` has what it has reported so far."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer = os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        self.count, self.rest = 0, b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that arrive before it are kept."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        self.writer.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = self.reader.read(1 << 20)
            assert part, "Chromium has ended"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(message))

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, or that of its promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"{expression} is not true after {seconds} s"
            time.sleep(0.05)

    def resize(self, width: int, height: int, **features: str) -> None:
        """Set the size of the window in px, and media features such as `prefers_color_scheme="dark"`."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=listed)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key, given by its name and its Windows key code."""
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **extra)

    def choose(self, selector: str, path: Path) -> None:
        """Give a file to a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """Start Chromium with an empty profile and yield a tab; the browser ends with the block."""
    assert CHROMIUM
    from_browser, to_page = os.pipe()
    from_page, to_browser = os.pipe()
    sandbox = () if os.geteuid() else ("--no-sandbox",)  # Chromium refuses its sandbox to root
    flags = (*QUIET, *CAMERA, *sandbox, "--remote-debugging-pipe", f"--user-data-dir={profile}")
    wired = f'exec "$@" 3<&{from_page} 4>&{to_page}'  # it reads from 3 and writes to 4
    process = subprocess.Popen(
        ["bash", "-c", wired, "bash", CHROMIUM, *flags],
        pass_fds=(from_page, to_page),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(from_page)
    os.close(to_page)
    page = Page(from_browser, to_browser)
    try:
        yield page
    finally:
        page.session = None
        page.call("Browser.close")
        page.reader.close()
        page.writer.close()
        process.wait(timeout=30)
