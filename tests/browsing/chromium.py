"""A real browser for tests, driven over its debugging pipe."""

from __future__ import annotations

import base64
import json
import select
import shutil
import subprocess
import time

__all__ = ["CHROMIUM", "SECONDS", "Browser"]

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None
)
"""Path of a browser, or None: tests that need it are skipped then, by name."""

SECONDS = 30.0
"""Silence after which a browser has failed."""


class Browser:
    """A headless browser with one page; commands and events of the DevTools protocol, ended by zero bytes."""

    def __init__(self, profile):
        # the protocol is spoken on the descriptors 3 and 4
        wrapped = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null', CHROMIUM]
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen([*wrapped, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.events, self.count, self.rest = [], 0, b""
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.terminate()
        self.process.wait(SECONDS)

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        answer = self.until(lambda message: message.get("id") == self.count)
        assert "error" not in answer, answer
        return answer["result"]

    def until(self, wanted):
        deadline = time.monotonic() + SECONDS
        while True:
            while b"\0" in self.rest:
                head, _, self.rest = self.rest.partition(b"\0")
                message = json.loads(head)
                self.events.append(message)
                if wanted(message):
                    return message
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = self.process.stdout.read(1 << 16) if ready else b""
            assert chunk, "the browser fell silent"
            self.rest += chunk

    def visit(self, address, width=1400, dark=False, media="", scripts=True):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._go("about:blank")  # so that a link into the page shown now is a new visit too
        self.events.clear()
        self._go(address)

    def _go(self, address):
        loader = self.call("Page.navigate", url=address)["loaderId"]

        def loaded(event):
            params = event.get("params", {})
            return event.get("method") == "Page.lifecycleEvent" and (params["name"], params["loaderId"]) == ("load", loader)

        if not any(map(loaded, self.events)):
            self.until(loaded)

    def run(self, script):
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def seen(self, *methods):
        return [event["params"] for event in self.events if event.get("method") in methods]

    def picture(self, path):
        width, height = self.run("[window.innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 6000), "scale": 1}
        data = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
