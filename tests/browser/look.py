"""Looks at a report in a real browser (headless Chromium, spoken to over pipes; nothing but Python's own library).

    look.py REPORT FOLDER

The page must load without any request or message of the browser; every section must have what its heading promises; plots must
be seen whole, with labels that can be read and do not lie on each other; text must stand out from its background in light and dark;
and nothing may be wider than the window. FOLDER gets a picture of the page in each of the windows looked at.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

WINDOWS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (480, "light")}

LOOK = r"""
(() => {
  const problems = [];
  const wrong = (what) => problems.push(what);
  const box = (e) => e.getBoundingClientRect();
  const name = (e) => (e.closest('section') || document.body).id + ': ' + (e.textContent || e.tagName).trim().slice(0, 40);
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) wrong(`the page is ${document.documentElement.scrollWidth} wide in a window of ${width}`);
  if (!document.title || document.querySelectorAll('h1').length !== 1) wrong('no title');
  for (const link of document.querySelectorAll('a[href^="#"]'))
    if (!document.getElementById(link.getAttribute('href').slice(1))) wrong(`a link to nothing: ${link.getAttribute('href')}`);
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  if (new Set(ids).size !== ids.length) wrong('an id stands there twice');
  document.querySelectorAll('details').forEach((d) => { d.open = true; });
  // Plots.
  const plots = [...document.querySelectorAll('figure svg')];
  for (const svg of plots) {
    const frame = box(svg);
    if (frame.width < 200 || frame.height < 150) wrong(`a plot of ${frame.width} x ${frame.height}: ${name(svg)}`);
    const texts = [...svg.querySelectorAll('text')].filter((t) => t.textContent.trim());
    if (texts.length < 3) wrong(`a plot without labels: ${name(svg)}`);
    if (svg.querySelectorAll('path, line, rect, circle, polyline').length < 4) wrong(`an empty plot: ${name(svg)}`);
    const boxes = texts.map((t) => [t.textContent.trim(), box(t)]);
    for (const [text, b] of boxes) {
      if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1)
        wrong(`the label "${text}" leaves its plot: ${name(svg)}`);
      if (width > 1000 && b.height < 8) wrong(`the label "${text}" is ${b.height} high: ${name(svg)}`);
    }
    for (let i = 0; i < boxes.length; i++)
      for (let j = i + 1; j < boxes.length; j++) {
        const [a, b] = [boxes[i][1], boxes[j][1]];
        const x = Math.min(a.right, b.right) - Math.max(a.left, b.left), y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (x > 2 && y > 0.4 * Math.min(a.height, b.height)) wrong(`"${boxes[i][0]}" and "${boxes[j][0]}" lie on each other: ${name(svg)}`);
      }
  }
  // Contrast (WCAG 2): text against what is behind it.
  const colour = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = colour(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const seen = new Set();
  for (const e of document.querySelectorAll('h1, h2, h3, p, td, th, a, li, summary, code')) {
    if (e.closest('svg') || !e.textContent.trim() || !box(e).width) continue;
    const [a, b] = [light(colour(getComputedStyle(e).color)), light(behind(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const what = `${e.tagName}.${e.className}`;
    if (contrast < 4.5 && !seen.has(what)) { seen.add(what); wrong(`contrast ${contrast.toFixed(2)} of ${what}: ${name(e)}`); }
  }
  // Tables.
  for (const table of document.querySelectorAll('table')) {
    const widths = new Set([...table.rows].map((r) => r.cells.length));
    if (widths.size !== 1) wrong(`a table with rows of ${[...widths]} cells: ${name(table)}`);
    const b = box(table.parentElement);
    if (b.right > width + 1) wrong(`a table leaves the page: ${name(table)}`);
  }
  const sections = [...document.querySelectorAll('section[id]')].map((s) => ({
    id: s.id, plots: s.querySelectorAll('figure svg').length, tables: s.querySelectorAll('table').length,
    rows: Math.max(0, ...[...s.querySelectorAll('table')].map((t) => t.rows.length)),
  }));
  return { problems, sections, plots: plots.length, height: document.documentElement.scrollHeight };
})()
"""


class Browser:
    """Chromium, spoken to by its debugging protocol over two pipes: JSON messages that end with a zero byte."""

    def __init__(self, folder):
        program = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
        if program is None:
            sys.exit("there is no Chromium: `apt-get install chromium` (setup/chromium.sh does it for root)")
        to_read, self.to = os.pipe()
        self.from_, from_write = os.pipe()
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
                     "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]

        def descriptors():
            # Chromium reads from 3 and writes to 4.
            a, b = os.dup(to_read), os.dup(from_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen([program, *arguments], pass_fds=(3, 4, to_read, from_write), preexec_fn=descriptors,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.number, self.rest, self.events = 0, b"", []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def message(self):
        while b"\0" not in self.rest:
            more = os.read(self.from_, 1 << 20)
            if not more:
                sys.exit("Chromium has ended")
            self.rest += more
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def __call__(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if getattr(self, "session", None):
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def until(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.message())


def main(report, folder):
    report, folder = pathlib.Path(report).resolve(), pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        for domain in ("Page", "Runtime", "Network", "Log"):
            browser(f"{domain}.enable")
        for window, (width, scheme) in WINDOWS.items():
            browser.events.clear()
            browser("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            browser("Page.navigate", url=report.as_uri())
            browser.until("Page.loadEventFired")
            found = browser("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
            problems = found["problems"]
            for event in browser.events:
                parameters = event.get("params", {})
                if event["method"] == "Network.requestWillBeSent" and parameters["request"]["url"] != report.as_uri():
                    problems.append(f"it asks for {parameters['request']['url']}")
                if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                    problems.append(f"the browser says {json.dumps(parameters)[:300]}")
            ids = [section["id"] for section in found["sections"]]
            if "behind" not in ids or len(ids) < 2:
                problems.append(f"sections {ids}")
            for section in found["sections"]:
                if section["rows"] < 2:
                    problems.append(f"{section['id']}: no table with a row")
            # Closed again, as people see it.
            browser("Runtime.evaluate", expression="document.querySelectorAll('details').forEach((d) => { d.open = false; })")
            height = browser("Runtime.evaluate", expression="document.documentElement.scrollHeight", returnByValue=True)["result"]["value"]
            clip = {"x": 0, "y": 0, "width": width, "height": min(height, 12000), "scale": 1}
            picture = browser("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
            path = folder / f"{report.parent.parent.name}-{window}.png"
            path.write_bytes(base64.b64decode(picture))
            print(f"{window}: {found['plots']} plots in {len(ids)} sections; {path}")
            for problem in problems:
                print(f"  {problem}")
            failed += len(problems)
        browser.process.terminate()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
