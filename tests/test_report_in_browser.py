"""The report of a real run, opened in a headless browser: nothing broken, nothing too wide."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import report
from tests.tiny_kitti import run_train, write_kitti

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PHONE, DESK = 400, 1280  # pixels
# A page that shows another in frames of each width, everything unfolded, and tells what it sees.
HARNESS = """<!DOCTYPE html><title>harness</title><pre id="found"></pre>
{frames}
<script>
addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument;
    page.querySelectorAll("details").forEach((each) => (each.open = true));
    const root = page.documentElement;
    const images = [...page.images];
    return {{
      width: root.clientWidth,
      needed: root.scrollWidth,
      images: images.length,
      broken: images.filter((image) => !image.naturalWidth).length,
    }};
  }});
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no browser here: apt-get install chromium, or any of " + ", ".join(BROWSERS))
    return found


def run_browser(browser: str, page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    # --no-sandbox: root, as in containers, cannot have Chromium's own.
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={page.parent / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def complaints(browser: str, page: Path, screenshot: Path) -> list[str]:
    """Lines of the browser's console, after taking a picture of the page as wide as a desk's."""
    size = f"--window-size={DESK},2000"
    flags = ("--enable-logging=stderr", "--v=0", size, f"--screenshot={screenshot}")
    lines = run_browser(browser, page, *flags).stderr.splitlines()
    return [line for line in lines if "CONSOLE" in line]


def measured(browser: str, page: Path, folder: Path) -> list[dict[str, int]]:
    """What the harness sees at each width."""
    text = html.escape(page.read_text(encoding="utf-8"))
    frames = "\n".join(
        f'<iframe style="border: 0; height: 900px; width: {width}px" srcdoc="{text}"></iframe>'
        for width in (PHONE, DESK)
    )
    (folder / "harness.html").write_text(HARNESS.format(frames=frames), encoding="utf-8")
    dom = run_browser(browser, folder / "harness.html", "--dump-dom").stdout
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom)[1]))


@pytest.mark.slow
def test_a_report_opens_without_complaint_and_fits_a_phone(browser, tmp_path):
    run = run_train(write_kitti(tmp_path / "kitti"), "run", "--num_epochs", 2)
    output = tmp_path / "report"
    report.main(["--exp", str(run), "--output", str(output), "--compare", str(run)])
    page, screenshot = output / "report.html", tmp_path / "page.png"
    assert complaints(browser, page, screenshot) == []
    with Image.open(screenshot) as picture:
        assert picture.size == (DESK, 2000)
        assert len(picture.convert("RGB").getcolors(2**24)) > 100  # not an empty page
    pictures = len(list(output.glob("*.png")))
    assert pictures > 20
    assert measured(browser, page, tmp_path) == [
        {"width": width, "needed": width, "images": pictures, "broken": 0}
        for width in (PHONE, DESK)
    ]


@pytest.mark.slow
def test_a_bad_page_would_be_noticed(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<!DOCTYPE html><html><body><div style="width: 600px">wide</div>'
        '<img src="data:image/png;base64,AAAA"><script>console.error("spoilt")</script>'
    )
    (complaint,) = complaints(browser, page, tmp_path / "page.png")
    assert "spoilt" in complaint
    phone, desk = measured(browser, page, tmp_path)
    assert phone["needed"] > phone["width"] == PHONE
    assert desk["needed"] == desk["width"] == DESK
    assert (phone["images"], phone["broken"]) == (1, 1)
