"""Pages driven in a browser by scripts that use them as a reader would."""

import html
import json
import pathlib
import re
import shutil
import subprocess
from typing import Any

import pytest

_LISTENERS = """<script>
const errors = [];
let saved;
URL.createObjectURL = (blob) => { saved = blob; return "data:,"; };
addEventListener("error", (e) => errors.push(e.message));
addEventListener("unhandledrejection", (e) => errors.push(String(e.reason)));
addEventListener("securitypolicyviolation", (e) => errors.push(`policy: ${e.effectiveDirective}`));
</script>"""

# A frame, because windows have a least width that is more than a phone's.
_FRAME = """<!doctype html><iframe src="driven.html" width="{width}" height="900" style="border:0"></iframe>
<pre id="driven"></pre>
<script>addEventListener("message", (e) => driven.textContent = e.data);</script>"""

# On the clock of the page, which runs ahead while it waits for images to be decoded, as on a busy machine.
_MILLISECONDS = 600_000


def drive(page: pathlib.Path, driver: pathlib.Path, folder: pathlib.Path, width: int) -> Any:
    """Opens a page with a reader's hands injected, at a width in pixels, and gives what they noted.

    The driver is a script that posts its notes as JSON to the parent window. Skips the test where there is no
    browser.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: the page's script was not run")
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{_LISTENERS}", 1)
    hands = f"<script>{{{driver.read_text()}}}</script></body>"
    (folder / "driven.html").write_text(text.replace("</body>", hands), encoding="utf-8")
    (folder / "frame.html").write_text(_FRAME.format(width=width))
    shown = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--dump-dom"),
            *(f"--virtual-time-budget={_MILLISECONDS}", (folder / "frame.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    found = re.search(r'<pre id="driven">(.+?)</pre>', shown, re.DOTALL)
    assert found, shown[-2000:]
    return json.loads(html.unescape(found[1]))
