"""What the report and the model card say of effects, beside what they say of every training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from runner.report import card as cards
from runner.report import figures
from runner.report.section import Section
from runner.scores import effects

from . import answers, simulate
from .answers import Overlap
from .config import Config
from .loading import Trial

NOT_CLINICAL = "Not for clinical use: nothing here says what is right for a patient."
READS = {answers.EFFECT: "R² of the effects", answers.OUTCOME: "R² of the outcomes"}
COVARIATES = 15
"""The most covariates whose balance is shown."""


def question(config: Config, examples: Trial, pick: str, overlap: Overlap) -> str:
    """What the run was to answer; what must be known before any effect stands first."""
    count = len(examples.of("train"))
    begun = (
        f", with a representation from {Path(config.source).name} ({len(examples.source.of('train'))} rows)"
        if examples.source is not None and config.weights == "source"
        else ""
    )
    judged = (
        "The true effects of this data are known, since somebody made it: they score, and chose nothing."
        if examples.truth is not None
        else "Nobody knows the true effect of one row, here or elsewhere: what is scored below is the "
        "outcome that was seen, and averages of groups."
    )
    return "\n\n".join(
        [
            NOT_CLINICAL,
            *overlap.notes,
            f"Whom does the treatment of {Path(config.data).name} help, and how much, after {count} rows"
            f"{begun}? {judged}",
            f"What is handed out is {pick}, chosen by the factual loss on validation: of the methods within "
            "one standard error of the best the one that moves least.",
        ]
    )


def sections(
    config: Config,
    examples: Trial,
    pick: str,
    overlap: Overlap,
    tried: Sequence[simulate.Tried],
    predictions: pd.DataFrame,
    metrics: Mapping[str, Mapping[str, Any]],
    policy: pd.DataFrame,
) -> dict[str, Any]:
    """What `page.write` shows of this task: simulated truths first, then who can be compared, then effects.

    Each part is a function, so that one that fails costs no other.
    """
    score = answers.score_of(predictions)
    return {
        "score": (score, READS[score]),
        "pictures": {},
        "sections": [
            lambda: simulated(config, tried),
            lambda: compared(overlap),
            lambda: balanced(overlap),
            *([lambda: against_truth(metrics)] if examples.truth is not None else []),
            lambda: effect_section(predictions),
            lambda: averages(predictions, examples, overlap),
            lambda: uplift(predictions, examples, overlap),
            lambda: policies(config, policy),
        ],
    }


def simulated(config: Config, tried: Sequence[simulate.Tried]) -> Section:
    """√PEHE of all methods where the truth was made up."""
    if not tried:
        return Section(
            "Before any effect: simulated truths",
            "Nothing was simulated (--simulations 0), so that nothing says how far the effects below may be "
            "off, and their intervals are those of a normal posterior.",
        )
    table, hard = simulate.table(tried), tried[0].hard
    best = table.set_index("method").mean(axis=1).idxmin()
    return Section(
        "Before any effect: simulated truths",
        "The same people, the same treatments and the same methods, with outcomes that were drawn from a "
        "known truth: how far each method's effects are off (√PEHE), as a share of the spread of the true "
        f"effects. At 1 it is no better than one effect for everybody. Best here: {best}. In the simulation "
        f"{100 * hard.noise:.0f} % of the outcome's variance is noise, and the effects of both trials are "
        f"drawn to agree with a correlation of {1 / np.hypot(1, hard.moved):.2f}; where outcomes are numbers "
        "and a larger trial is there, the outcomes of both say so. Your truth may be kinder or worse.",
        tables=[("√PEHE on simulated truths, as a share of the spread", table)],
    )


def compared(overlap: Overlap) -> Section:
    """Who was treated with what chance."""
    table = overlap.arms.rename(columns={"effective_rows": "effective rows"})
    said = "; ".join(f"{row.arm} {row.lowest_propensity:.2f} to {row.highest_propensity:.2f}"
                     for row in overlap.arms.itertuples())  # fmt: skip
    drawn = figures.inline_svg(_propensities(overlap), f"Chance of treatment by arm: {said}.", "propensities")
    told = overlap.notes[0] if overlap.notes else (
        "Every row has people like it in both arms, by the rule of Crump et al. (2009)."
    )  # fmt: skip
    return Section(
        "Can the arms be compared? Overlap",
        f"{told} The chance of being treated is told from the covariates by logistic regression; effective "
        "rows are what is left of an arm when each row is weighted by the inverse of its chance.",
        tables=[("Rows to learn from", table)],
        figures=[("Chance of being treated", Markup(drawn))],
    )


def balanced(overlap: Overlap) -> Section:
    """How the arms differ in what was known before."""
    table = overlap.balance.head(COVARIATES)
    large = int((overlap.balance["difference"].abs() > effects.LARGE).sum())
    after = int((overlap.balance["weighted"].abs() > effects.LARGE).sum())
    return Section(
        "Balance",
        f"Standardised mean differences between the arms. {large} of {len(overlap.balance)} are above "
        f"{effects.LARGE:g} in size, {after} after weighting by the chance of treatment. What nobody wrote "
        "down can differ as well, and no table shows it.",
        tables=[("The largest differences", table)],
    )


def against_truth(metrics: Mapping[str, Mapping[str, Any]]) -> Section:
    """√PEHE on the test, where somebody made the data."""
    rows = [
        {
            "method": name,
            "√PEHE": one["root_pehe"],
            "low": one["root_pehe_interval"][0],
            "high": one["root_pehe_interval"][1],
            "error of the average": one["average_error"],
        }
        for name, one in metrics.items()
    ]
    return Section(
        "Against the truth",
        "The true effects of these test rows are known; in units of the outcome. Low and high are of the "
        "95 % interval over rows.",
        tables=[("Test rows", pd.DataFrame(rows))],
    )


def effect_section(predictions: pd.DataFrame) -> Section:
    """How the effects of the test rows are spread, those without overlap withheld."""
    rows = answers.usable(predictions)
    left = len(predictions) - len(rows)
    if rows.empty:
        return Section("Effects", "No row has overlap: all effects are withheld.")
    apart = int(((rows["low"] > 0) | (rows["high"] < 0)).sum())
    hidden = f"; those of {left} without overlap are withheld" if left else ""
    covered = ""
    if "true_effect" in rows:
        within = (rows["low"] <= rows["true_effect"]) & (rows["true_effect"] <= rows["high"])
        covered = f" Of the true effects {100 * within.mean():.0f} % lie in their interval."
    drawn = figures.inline_svg(
        _spread(rows),
        f"Histogram of {len(rows)} estimated effects from {rows['effect'].min():.2f} to "
        f"{rows['effect'].max():.2f}.",
        "effects",
    )
    return Section(
        "Effects",
        f"Estimated effects of {len(rows)} test rows{hidden}. The interval of {apart} leaves out 0. "
        f"Intervals are widened so that 95 % of the simulated effects lie within.{covered}",
        figures=[("Estimated effects", Markup(drawn))],
    )


def averages(predictions: pd.DataFrame, examples: Trial, overlap: Overlap) -> Section | None:
    """Average effects, of everybody and of subgroups, by outcomes that were seen."""
    table = answers.by_group(predictions, examples, overlap)
    if table.empty:
        return None
    return Section(
        "Average effects",
        "Of test rows, doubly robust, with 95 % intervals: unlike the effect of one row these are checked by "
        "outcomes that were seen. Several subgroups differ by chance as well.",
        tables=[("Average effects", table)],
    )


def uplift(predictions: pd.DataFrame, examples: Trial, overlap: Overlap) -> Section | None:
    """What treating those first who gain most brings, by outcomes that were seen."""
    curve = answers.curve(predictions, examples, overlap)
    if curve is None:
        return None
    area = effects.qini(curve)
    drawn = figures.inline_svg(
        _curve(curve), f"Uplift curve that ends at {curve['gain'].iloc[-1]:.2f}; Qini {area:.3f}.", "uplift"
    )
    return Section(
        "Whom to treat first: uplift",
        "Test rows in the order of their estimated effects: what treating the first share of them brought, "
        "in the outcomes that were seen (per row of all). The straight line is treating in random order. "
        f"The area between both is the Qini coefficient, {area:.3f}.",
        figures=[("Uplift curve", Markup(drawn))],
    )


def policies(config: Config, policy: pd.DataFrame) -> Section | None:
    """What each policy is worth."""
    if policy.empty:
        return None
    cost = f" Each treatment costs {config.policy_cost:g}." if config.policy_cost else ""
    return Section(
        "What is a policy worth?",
        "The mean outcome of test rows if each got what the policy says, from the outcomes that were seen, "
        "by inverse propensity and doubly robust (Dudik et al. 2011), with 95 % intervals. More than nobody: "
        f"the doubly robust difference to treating nobody, row by row.{cost}",
        tables=[("Policies", policy)],
    )


def card(config: Config, examples: Trial, pick: str, overlap: Overlap, test: Mapping[str, Any]) -> cards.Task:
    """What the model card says of this task."""
    score = answers.EFFECT if answers.EFFECT in test else answers.OUTCOME
    return cards.Task(
        title=Path(config.data).name,
        what="A model of what a treatment changes in an outcome, row by row, between",
        prepared="numbers are scaled, missing values have a place of their own",
        takes="a dict of columns (batch,): numbers as float32, words as strings",
        gives="float32 (batch, 5): expected outcome untreated and treated, effect, half of its 95 % "
        "interval, chance of treatment",
        order="which are no classes",
        meant=f"{NOT_CLINICAL} Meant to plan a trial or to read one, for people like those of this one.",
        score=(score, READS[score]),
        columns={"R² of the outcomes": answers.OUTCOME, "rows": "rows"},
        commands=(
            "predict RUN TABLE --output effects.csv",
            "evaluate RUN TABLE",
            "export RUN --format savedmodel",
        ),
        training=f"What is handed out is {pick}, chosen by the factual loss on validation; no effect was "
        "looked at to choose.",
        limits=(
            *overlap.notes,
            "The effects are causal only where everything that decided both treatment and outcome is in the "
            "columns (or treatment was drawn by lot), and where one person's treatment changes nobody "
            "else's outcome.",
            "The effect of one row cannot be checked on any data; its interval is calibrated on simulated "
            "truths.",
        ),
        unit="rows",
        loads="It has layers of this project: import `runner.tables.layers` before "
        "`keras.models.load_model`.",
    )


# ---------------------------------------------------------------- drawings


def _axes(width: float = 6.2, height: float = 3.6) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="y", color=figures.COLOURS["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _propensities(overlap: Overlap) -> Any:
    figure, axes = _axes()
    bins = np.linspace(0, 1, 26)
    for arm, (name, colour) in enumerate((("control", "muted"), ("treated", "accent"))):
        own = overlap.chances[overlap.treatment == arm]
        axes.hist(
            own, bins, histtype="step", color=figures.COLOURS[colour], linewidth=2,
            linestyle="--" if arm == 0 else "-", label=f"{name} ({len(own)})",
        )  # fmt: skip
    if overlap.share:
        for place in (overlap.share, 1 - overlap.share):
            axes.axvline(place, color=figures.COLOURS["ink"], linestyle=":", linewidth=1.2)
    axes.set_xlim(0, 1)
    axes.set_xlabel("chance of being treated")
    axes.set_ylabel("rows")
    axes.legend(frameon=False)
    return figure


def _spread(rows: pd.DataFrame) -> Any:
    figure, axes = _axes()
    axes.hist(rows["effect"], 40, color=figures.COLOURS["accent"])
    axes.axvline(0, color=figures.COLOURS["ink"], linewidth=1.2)
    axes.set_xlabel("estimated effect, in units of the outcome")
    axes.set_ylabel("test rows")
    return figure


def _curve(curve: pd.DataFrame) -> Any:
    figure, axes = _axes()
    axes.plot(curve["share"], curve["gain"], color=figures.COLOURS["accent"], linewidth=2)
    axes.plot(
        [0, 1], [0, curve["gain"].iloc[-1]], color=figures.COLOURS["muted"], linestyle="--", linewidth=1.2
    )
    axes.set_xlabel("share that is treated, the largest effects first")
    axes.set_ylabel("gain per row")
    return figure
