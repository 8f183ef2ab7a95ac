"""Every template's report in a browser, as wide as a laptop and as a phone: nothing is cut off or broken."""

import dataclasses
import html
import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runner.machine import Machine

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
TEMPLATES = sorted(path.parent.name for path in Path("templates").glob("*/config.py"))

# The page stands in a frame of the wanted width, for a browser's own window has a least width. What is told:
# how far the page reaches beyond it, what sticks out of the window without a place to scroll, pictures that
# did not load, and errors of scripts.
FRAME = """<!DOCTYPE html><html><body><iframe id="page" src="{page}" width="{width}" height="900"></iframe>
<pre id="found"></pre><script>
const frame = document.getElementById("page"), errors = [];
frame.addEventListener("load", () => {{
  const page = frame.contentDocument, wide = page.documentElement.clientWidth;
  const scrolls = one => {{
    for (let above = one.parentElement; above; above = above.parentElement)
      if (/auto|scroll|hidden/.test(page.defaultView.getComputedStyle(above).overflowX)) return true;
    return false;
  }};
  const out = [...page.body.querySelectorAll("*")].filter(one => {{
    const box = one.getBoundingClientRect();
    return box.width && (box.right > wide + 1 || box.left < -1) && !scrolls(one);
  }}).map(one => one.tagName + " " + one.className + " " + one.textContent.slice(0, 40));
  const broken = [...page.images].filter(one => !one.naturalWidth).map(one => one.alt);
  document.getElementById("found").textContent = JSON.stringify({{
    width: wide, reach: page.documentElement.scrollWidth, out, broken,
    pictures: page.images.length + page.querySelectorAll("svg, .quotation").length,
  }});
}});
</script></body></html>"""


def looked_at(page: Path, width: int) -> dict:
    """What a browser says of a page that is so many pixels wide."""
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(page=page.name, width=width))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += ["--virtual-time-budget=20000", "--dump-dom", "--enable-logging=stderr", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found">(\{.*?\})</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])) | {"console": said}


@pytest.fixture(scope="module", params=TEMPLATES)
def report(request, tmp_path_factory):
    """The page of a run on the data that comes with the template, of one epoch a stage."""
    config = importlib.import_module(f"templates.{request.param}.config").Config()
    fewer = {"labels_per_class": 4, "train_examples": 16, "val_episodes": 20, "labels": (4, 5)}
    few = dict([next((name, value) for name, value in fewer.items() if hasattr(config, name))])
    config = dataclasses.replace(
        config,
        **few,
        stages=tuple(dataclasses.replace(stage, epochs=1) for stage in config.stages),
        machine=Machine(run_dir=str(tmp_path_factory.mktemp(request.param) / "run")),
    )
    return importlib.import_module(f"templates.{request.param}.train").main(config) / "report.html"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_a_report_fits_a_laptop_and_a_phone(report, tmp_path):
    page = Path(shutil.copy(report, tmp_path))
    for width in (1366, 390):
        found = looked_at(page, width)
        assert found["pictures"] > 4
        assert found["out"] == [] and found["reach"] <= found["width"] + 1, f"{width} pixels: {found}"
        assert found["broken"] == [] and found["console"] == []


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_what_sticks_out_is_seen(tmp_path):
    """The check can fail."""
    wide = tmp_path / "wide.html"
    wide.write_text(
        '<body><div style="width:900px">wide</div><img src="data:image/png;base64,AA" alt="none"></body>'
    )
    found = looked_at(wide, 390)
    assert found["reach"] > 390 and found["out"] and found["broken"] == ["none"]
