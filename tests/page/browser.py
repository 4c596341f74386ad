"""Drives a headless Chromium through its debugging pipe: no package needed.

    browser.py CHROMIUM OUTPUT_FOLDER < steps

Each line of the steps is a command:

    open URL              loads it, and waits until it is there
    light | dark          what the system is said to prefer
    size WIDTH HEIGHT     of the window
    shot NAME             writes OUTPUT_FOLDER/NAME.png
    moves SELECTOR        waits until the text of that element changes
    says SELECTOR TEXT    waits until the text of that element contains TEXT
    patience SECONDS      how long the next ones wait, 30 at first
    fits                  nothing on the page is wider than the window
    noscript URL          the page at URL has numbers without any script

Ends with 1 when a step fails, or when the console got an error or a warning, whatever it was.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time

PATIENCE = 30


class Browser:
    def __init__(self, program, profile):
        to_us, from_browser = os.pipe()
        to_browser, from_us = os.pipe()
        # The pipe's ends have to be 3 (the browser reads) and 4 (it writes).
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = ["bash", "-c", shell, "bash", program, "--headless=new", "--remote-debugging-pipe",
                   f"--user-data-dir={profile}", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                   "--no-first-run", "--disable-extensions", "--disable-background-networking", "about:blank"]
        if os.getuid() == 0:
            command.insert(6, "--no-sandbox")
        self.process = subprocess.Popen(command, pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.out, self.inp = os.fdopen(from_us, "wb", 0), os.fdopen(to_us, "rb", 0)
        self.buffer, self.number, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def read(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.inp.fileno(), 1 << 20)
            if not piece:
                raise SystemExit("the browser ended")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def complaints(self):
        """What stands in the console."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
            elif method == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"].get("text", "an exception"))
            elif method == "Runtime.consoleAPICalled":
                found.append(str(params["args"]))
        return found


def until(what, done):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if done():
            return
        time.sleep(0.1)
    raise SystemExit(f"in vain: {what}")


def text_of(browser, selector):
    return browser.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")


def step(browser, folder, line):
    name, _, rest = line.partition(" ")
    if name == "open":
        browser.call("Page.navigate", url=rest)
        until(line, lambda: browser.evaluate("document.readyState") == "complete"
              and browser.evaluate("location.href").startswith(rest))
    elif name in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])
    elif name == "size":
        width, height = map(int, rest.split())
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    elif name == "shot":
        shot = browser.call("Page.captureScreenshot", format="png")
        with open(os.path.join(folder, rest + ".png"), "wb") as file:
            file.write(base64.b64decode(shot["data"]))
    elif name == "patience":
        global PATIENCE
        PATIENCE = float(rest)
    elif name == "moves":
        before = text_of(browser, rest)
        until(line, lambda: text_of(browser, rest) not in ("", before))
    elif name == "says":
        selector, _, text = rest.partition(" ")
        until(f"{line}; it says {text_of(browser, selector)!r}", lambda: text in text_of(browser, selector))
    elif name == "fits":
        wide, window = browser.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if wide > window:
            raise SystemExit(f"the page is {wide} wide in a window of {window}")
    elif name == "noscript":
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.call("Page.navigate", url=rest)
        time.sleep(1)
        html = browser.call("DOM.getOuterHTML", nodeId=browser.call("DOM.getDocument")["root"]["nodeId"])["outerHTML"]
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
        if "samples/s" not in html or 'class="verdict"' in html:
            raise SystemExit("without scripts there are no numbers")
    else:
        raise SystemExit(f"what is {line!r}?")


def main():
    program, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            for line in filter(None, map(str.strip, sys.stdin)):
                step(browser, folder, line)
                print("ok", line, flush=True)
            browser.evaluate("1")
            complaints = browser.complaints()
            if complaints:
                raise SystemExit("the console says: " + "; ".join(complaints))
            print("ok the console is empty")
        finally:
            browser.process.terminate()
            browser.process.wait()


main()
