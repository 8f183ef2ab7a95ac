"""The two pictures of the README, made from a finished run of the image template.

    python -m templates.image_classification.train --run-dir runs/readme
    python -m docs.pictures runs/readme

`docs/report.png` is a part of the run's report as Chromium shows it, `docs/stages.png` its ledger: what each
stage moved, block by block. Needs Chromium or Chrome; --chromium names it where it is not on the path.
"""

import argparse
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from runner import atomic
from runner.errors import InputError
from runner.flags import exit_on_input_error
from runner.report.figures import COLOURS

DOCS = Path(__file__).resolve().parent
LARGEST = 200_000
"""Bytes that a picture of the README may have."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium(given: str = "") -> str:
    """Return the path of Chromium or Chrome; raises InputError where there is none."""
    for name in [given] if given else NAMES:
        path = shutil.which(name)
        if path:
            return path
    raise InputError(
        f"no browser was found as {given or ', '.join(NAMES)}; install one, or name it: --chromium PATH."
    )


def report_picture(run: Path, chromium: str, width: int = 1060, height: int = 1330) -> Image.Image:
    """Return what a window `width` pixels wide shows of the report: the result, and where the network looked.

    The other sections are left out, so that the picture stays short, and so are the seconds, which say more
    of the machine than of the methods; the rest is cut after `height` pixels.
    Raises InputError where the run has no report or the browser takes no picture.
    """
    page = run / "report.html"
    if not page.is_file():
        raise InputError(f"{run} has no report.html: give the folder of a finished run.")
    shown = (
        "header { padding-top: 28px } section:not(#result):not(#attention), footer, "
        "#result :is(th, td):nth-child(6) { display: none }"
    )
    text = page.read_text(encoding="utf-8").replace("</head>", f"<style>{shown}</style></head>", 1)
    with tempfile.TemporaryDirectory() as scratch:
        excerpt, shot = Path(scratch) / "report.html", Path(scratch) / "report.png"
        excerpt.write_text(text, encoding="utf-8")
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
            f"--user-data-dir={scratch}/profile",
            # A window somewhat taller than the picture: some versions leave the last rows of a window blank.
            f"--window-size={width},{height + 200}",
            f"--screenshot={shot}",
        ]
        done = subprocess.run(
            [chromium, *options, excerpt.as_uri()], capture_output=True, text=True, timeout=120
        )
        if not shot.is_file():
            raise InputError(f"{chromium} took no picture of {page}: {done.stderr.strip()[-300:]}")
        with Image.open(shot) as picture:
            return picture.convert("RGB").crop((0, 0, width, height))


def stages_picture(ledger: pd.DataFrame, history: pd.DataFrame) -> Figure:
    """Draw what each stage moved, block by block: a row per stage, a column per block, the head last.

    `ledger` and `history` are the tables of the same names of a run folder. A cell's colour and number are
    the relative change of the block's weights, length of the difference over length before; a block that was
    not to train is grey and moved by exactly 0.
    """
    stages, blocks = list(dict.fromkeys(ledger["stage"])), list(dict.fromkeys(ledger["block"]))
    figure = Figure(figsize=(11, 1.75 + 0.62 * len(stages)), dpi=100, facecolor="white")
    axes = figure.add_axes((0.115, 0.36, 0.785, 0.5))
    shades = LinearSegmentedColormap.from_list("moved", ["#d5eaef", COLOURS["accent"]])
    changes = ledger.loc[ledger["to_train"] > 0, "relative_change"]
    lowest, highest = math.log(changes.min()), math.log(changes.max())
    for row in ledger.itertuples():
        column, line = blocks.index(row.block), stages.index(row.stage)
        trained = row.to_train > 0
        share = (math.log(row.relative_change) - lowest) / max(highest - lowest, 1e-9) if trained else 0
        colour = shades(share) if trained else COLOURS["shade"]
        axes.add_patch(Rectangle((column, line), 1, 1, facecolor=colour, edgecolor="white", linewidth=2))
        axes.text(
            column + 0.5,
            line + 0.5,
            f"{100 * row.relative_change:.1f} %" if trained else "0",
            ha="center",
            va="center",
            fontsize=9,
            color=COLOURS["muted"] if not trained else "white" if share > 0.6 else COLOURS["ink"],
        )
    for line, stage in enumerate(stages):
        epochs = history[history["stage"] == stage]
        label = dict(va="center", fontsize=10, color=COLOURS["ink"], linespacing=1.4)
        axes.text(-0.15, line + 0.5, f"{stage}\n{len(epochs)} epochs", ha="right", **label)
        best = epochs["val_accuracy"].max()
        axes.text(len(blocks) + 0.15, line + 0.5, f"{100 * best:.1f} %", ha="left", **label)
    heading = dict(fontsize=10, color=COLOURS["muted"], va="bottom")
    axes.text(-0.15, -0.2, "stage", ha="right", **heading)
    axes.text(0, -0.2, "how far the weights of each block moved; 0: frozen, to the bit", ha="left", **heading)
    axes.text(len(blocks) + 0.15, -0.2, "best on\nvalidation", ha="left", **heading)
    axes.set_xlim(0, len(blocks))
    axes.set_ylim(len(stages), 0)
    axes.set_xticks(
        [number + 0.5 for number in range(len(blocks))], blocks, rotation=40, ha="right", fontsize=9
    )
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0, colors=COLOURS["muted"])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG of at most 256 colours, enough for text and plots; InputError from LARGEST bytes on."""
    small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)

    def write(unfinished: Path) -> None:
        small.save(unfinished, format="PNG", optimize=True)
        size = unfinished.stat().st_size
        if size >= LARGEST:
            raise InputError(
                f"{path.name} would have {size:,} bytes, not below {LARGEST:,}: take a smaller part."
            )

    atomic.write(path, write)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m docs.pictures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("run", type=Path, help="folder of a finished run of the image template")
    parser.add_argument("--chromium", default="", help="the browser, where it is not on the path")
    options = parser.parse_args(arguments)
    with exit_on_input_error():
        if not (options.run / "ledger.csv").is_file():
            raise InputError(f"{options.run} has no ledger.csv: give the folder of a finished run.")
        save(report_picture(options.run, find_chromium(options.chromium)), DOCS / "report.png")
        figure = stages_picture(
            pd.read_csv(options.run / "ledger.csv"), pd.read_csv(options.run / "history.csv")
        )
        with tempfile.TemporaryDirectory() as scratch:
            figure.savefig(f"{scratch}/stages.png")
            with Image.open(f"{scratch}/stages.png") as picture:
                save(picture, DOCS / "stages.png")
    for name in ("report.png", "stages.png"):
        print(f"docs/{name}: {(DOCS / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
