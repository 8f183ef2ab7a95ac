"""A schedule and what came of it in words and as a table: for a terminal, a notebook and the report."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from runner.report import words
from runner.stage import Stage


def stage_in_words(stage: Stage, batch_norm: bool = True) -> str:
    """Return one sentence that says what a stage trains, for how long and how fast.

    batch_norm: whether the network has any, of which something is to be said.
    """
    word, _, argument = stage.train.partition(":")
    what = {
        "head": "The head alone learns",
        "top": "The head and the top block learn"
        if argument == "1"
        else f"The head and the top {argument} blocks learn",
        "above": f"The head and everything above {argument} learn",
        "all": "The whole network learns",
        "norm": "The head and the scales and offsets of the normalisation layers learn",
        "bias": "The head and the biases learn",
        "lora": f"The head and, of rank {argument}, small weights beside the kernels of all blocks learn",
    }.get(word, f"{stage.train} learns")
    rate = np.format_float_positional(stage.rate, trim="-")
    parts = [f"{what} for {words.times(stage.epochs, 'epoch', 'epochs')} at a learning rate of {rate}"]
    if stage.schedule != "constant":
        warm_up = f" after a warm-up over {100 * stage.warmup:.0f} % of the steps" if stage.warmup else ""
        parts.append(
            {"cosine": f"falling along a cosine{warm_up}", "one_cycle": "in one cycle up and down"}[
                stage.schedule
            ]
        )
    if stage.share != 1 and word != "head":
        parts.append(f"the backbone at {stage.share:g} times that rate")
    if stage.layer_decay != 1:
        parts.append(f"each block at {stage.layer_decay:g} times the rate of the block above it")
    if stage.patience is not None:
        parts.append(f"ending early after {stage.patience} epochs without a better validation value")
    end = "The best epoch on validation is kept." if stage.keep == "best" else "The last epoch is kept."
    of_batch_norm = ""
    if batch_norm and word in ("top", "above", "all"):
        of_batch_norm = f" BatchNorm {'learns too' if stage.batch_norm == 'train' else 'stays frozen'}."
    return f"{', '.join(parts)}.{of_batch_norm} {end}"


def has_batch_norm(ledger: pd.DataFrame | None) -> bool:
    """Whether a network of which there is a ledger has statistics; True where there is none."""
    return ledger is None or "statistics_moved" in ledger


def describe(
    stages: Sequence[Stage], history: pd.DataFrame | None = None, ledger: pd.DataFrame | None = None
) -> list[dict]:
    """Return for each stage `name`, `sentence`, and as `facts` (kind, sentence) pairs what came of it.

    `history` has columns stage, epoch, val_loss and val_accuracy; `ledger` is what `trainable.ledger`
    makes. A kind is "fine" for a check that held, "bad" for one that did not, "told" for what is just so.
    """
    plan = []
    for stage in stages:
        facts: list[tuple[str, str]] = []
        entry = {
            "name": stage.name,
            "sentence": stage_in_words(stage, has_batch_norm(ledger)),
            "facts": facts,
        }
        if history is not None and "stage" in history:
            ran = history[history["stage"] == stage.name]
            if len(ran) and "val_loss" in ran and ran["val_loss"].notna().any():
                best = ran.loc[ran["val_loss"].idxmin()]
                accuracy = (
                    f", accuracy {words.percent(best['val_accuracy'])}" if "val_accuracy" in ran else ""
                )
                epochs = f"Ran {len(ran)} of {words.times(stage.epochs, 'epoch', 'epochs')}"
                facts.append(
                    (
                        "told",
                        f"{epochs}; lowest validation loss {best['val_loss']:.3f}{accuracy} in epoch "
                        f"{int(best['epoch'])}.",
                    )
                )
                setback = _setback(stage, ran)
                if setback:
                    facts.append(("bad", f"{setback[0].upper()}{setback[1:]}"))
        if ledger is not None:
            facts += _moved(ledger[ledger["stage"] == stage.name])
        plan.append(entry)
    return plan


def setbacks(stages: Sequence[Stage], history: pd.DataFrame | None) -> list[str]:
    """Return a sentence, with advice, for each stage that did not better what it received.

    `history` has columns stage and handed_on, as `fit_stages` gives it.
    """
    said: list[str] = []
    if history is None or "stage" not in history:
        return said
    for stage in stages:
        setback = _setback(stage, history[history["stage"] == stage.name])
        if setback:
            said.append(f"Stage {stage.name}: {setback}")
    return said


def lagging(history: pd.DataFrame | None, ledger: pd.DataFrame | None, anew: bool) -> str:
    """Return why a validation curve may be flat where BatchNorm learned, "" where it learned in no stage.

    `history` has columns stage and val_loss, `ledger` stage and statistics_moved; anew: the statistics were
    estimated anew at the end.
    """
    if history is None or ledger is None or "val_loss" not in history or "statistics_moved" not in ledger:
        return ""
    moved = ledger.groupby("stage", sort=False)["statistics_moved"].sum()
    names = [str(name) for name in moved.index[moved > 0]]
    if not names:
        return ""
    said = (
        f"BatchNorm learned in {'stage' if len(names) == 1 else 'the stages'} {' and '.join(names)}. "
        "Validation uses moving averages of its statistics, which follow the weights only after some hundred "
        "steps: until then the validation curve may stay flat, or jump, although the network learns."
    )
    if anew:
        said += " Before the network was judged they were estimated anew from the training examples."
    return said


def _setback(stage: Stage, ran: pd.DataFrame) -> str:
    if not len(ran) or "handed_on" not in ran or ran["handed_on"].any():
        return ""
    return (
        "none of its epochs was better on validation than what it received, which it handed on. "
        f"Give it a lower learning rate, such as {stage.rate / 10:.2g}, or leave it out."
    )


def _moved(rows):
    """Return what the ledger of one stage says, as (kind, sentence) pairs."""
    if len(rows) == 0:
        return []
    to_train, moved = int(rows["to_train"].sum()), int(np.minimum(rows["moved"], rows["to_train"]).sum())
    still = int((rows["variables"] - rows["to_train"]).sum())
    strays = int((rows["moved"] - rows["to_train"]).clip(lower=0).sum())
    frozen = rows[rows["to_train"] == 0]
    frozen_tensors = words.times(still, "frozen weight tensor", "frozen weight tensors")
    facts = [
        (
            "fine" if moved else "bad",
            f"{moved} of {words.times(to_train, 'weight tensor', 'weight tensors')} "
            "that were to learn moved.",
        )
    ]
    if strays or frozen["relative_change"].fillna(1).ne(0).any():
        facts.append(
            (
                "bad",
                f"{max(strays, 1)} of {frozen_tensors} moved.",
            )
        )
    elif still:
        facts.append(
            (
                "fine",
                f"{frozen_tensors} moved by exactly 0.",
            )
        )
    if "statistics_moved" in rows:
        statistics = int(rows["statistics_moved"].astype(int).sum())
        facts.append(
            ("told", f"{words.times(statistics, 'BatchNorm statistic', 'BatchNorm statistics')} moved.")
            if statistics
            else ("fine", "No BatchNorm statistic moved.")
        )
    return facts


def ledger_table(ledger: pd.DataFrame) -> dict:
    """Return the ledger as blocks by stages, top of the network first: {"stages": names, "rows": [...]}.

    A row has `block`, `variables` and `cells`, one per stage: `kind` ("frozen", "moved" or "wrong"), `text`
    (the relative change), `note` and `depth` (0..1, how strongly to colour it); None where there is no row.
    """
    stages = list(dict.fromkeys(ledger["stage"]))
    blocks = list(dict.fromkeys(ledger["block"]))[::-1]
    entries = {(row["stage"], row["block"]): row for row in ledger.to_dict("records")}
    rows = []
    for block in blocks:
        cells = []
        for stage in stages:
            row = entries.get((stage, block))
            cells.append(None if row is None else _ledger_cell(row))
        known = next(entries[stage, block] for stage in stages if (stage, block) in entries)
        rows.append({"block": block, "variables": int(known["variables"]), "cells": cells})
    return {"stages": stages, "rows": rows}


def _ledger_cell(row):
    change = row["relative_change"]
    if row["to_train"] == 0:
        fine = row["moved"] == 0 and change == 0
        return {
            "kind": "frozen" if fine else "wrong",
            "text": "0" if fine else _change(change),
            "note": "frozen",
            "depth": 0,
        }
    # A change of 0.01 % is faint and one of 100 % and more is full: logarithmic, as changes span decades.
    depth = min(1.0, max(0.08, (4 + math.log10(change)) / 4)) if change and change == change else 0.08
    return {
        "kind": "wrong" if row["moved"] > row["to_train"] else "moved",
        "text": _change(change),
        "note": f"{int(row['moved'])} of {int(row['to_train'])} moved",
        "depth": round(0.75 * depth, 3),
    }


def _change(change):
    if change != change:
        return "–"
    return f"{100 * change:.0f}\u202f%" if change >= 0.1 else f"{100 * change:.2g}\u202f%"
