"""Effects whose truth is known: small trials beside a larger one, over worlds; or IHDP.

    python -m benchmarks.treatment_effects --worlds 5
    python -m benchmarks.treatment_effects --intervals --worlds 4
    python -m benchmarks.treatment_effects --ihdp ../shared/data/ihdp

Small trials: each world of datasets/made_trials has a trial of 4,000 and small ones of 100 and 400 rows (a
quarter of them to choose on), in which the effects have moved a little or much. All methods of the template
learn from the same rows and are judged on 2,000 others: root PEHE, mean +- standard deviation over worlds,
and each method's difference to the best rival within a world, +- its standard error. With --intervals: the
share of true effects within the 95 % interval of what a run would hand out, how wide that is in the mean, and
how wide one of the same width for all rows would have to be.

IHDP: FOLDER holds ihdp_npci_1.csv and so on: treatment, outcome, counterfactual, mu0, mu1, 25 covariates.
Each replication is divided 63/27/10 by its number, as in the literature; within sample are the first two
parts. The networks are those of the papers (three layers of 200, two of 100 a head); nothing but their epoch
is chosen, by validation's factual loss. A row of the CSV file named by --out is a method of a setting; an
interrupted call finds what is done.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import made, pictures
from runner import atomic, fields, flags
from runner.scores import effects
from runner.stage import Stage
from runner.training import baselines
from runner.training.checkpoint import Checkpointing
from templates.treatment_effects import answers, learners, simulate, train
from templates.treatment_effects.config import Config
from templates.treatment_effects.loading import Trial

MOVES, ROWS, TEST = ("little", "much"), (100, 400), 2_000
RIVALS = (learners.RIDGE_S, learners.RIDGE_T, learners.BOOSTING, baselines.SCRATCH)
"""What knows the small trial alone."""
IHDP = Config(
    source="",
    weights="none",
    representation=(200, 200, 200),
    heads=(100, 100),
    batch_size=100,
    stages=(Stage("all", train="all", epochs=40, learning_rate=1e-3, schedule="cosine"),),
    weight_decay=0.9,
    baselines=False,
    simulations=0,
)


def root_pehe(one: learners.Learner, trial, ids: np.ndarray) -> float:
    """Of a learner on some rows of a trial with a truth."""
    mu = one.expected(trial.rows[ids])
    return effects.root_pehe(trial.truth[ids, 1] - trial.truth[ids, 0], mu[:, 1] - mu[:, 0])


def settings(config: Config, world: int, place: Path) -> Iterator[tuple[dict, Config, Trial]]:
    """The small trials of a world: what a row of the table begins with, the config and the data."""
    make = made.module("made_trials", "making")
    make.trial(world, "large", 4_000).to_csv(place / "large.csv", index=False)
    for move in MOVES:
        for rows in ROWS:
            parts = [make.trial(world, move, count, part).assign(split=part)
                     for part, count in (("train", rows), ("test", TEST))]  # fmt: skip
            pd.concat(parts).to_csv(place / "small.csv", index=False)
            changes = {"data": str(place / "small.csv"), "source": str(place / "large.csv")}
            of = fields.replace(config, seed=world, **changes)
            yield {"world": world, "move": move, "rows": rows}, of, train.load(of)


def once(place: Path) -> Callable[[str], Checkpointing | None]:
    """Checkpoints by which the larger trial is learned from once."""
    return lambda name: Checkpointing(place / name, None, None) if name == learners.SOURCE else None


def small_trials(config: Config, world: int, place: Path) -> list[dict]:
    """All settings of a world; the larger trial is learned from once."""
    found = []
    for setting, of, trial in settings(config, world, place):
        networks, _ = train.fit_all(of, trial, once(place))
        losses = learners.losses(networks, trial)
        networks = learners.one_scratch(networks, trial)
        networks["handed out"] = networks[learners.chosen(losses)]
        tested = trial.of("test")
        for name, one in networks.items():
            chosen = losses[name].mean() if name in losses else np.nan
            row = setting | {"method": name, "root_pehe": root_pehe(one, trial, tested)}
            found.append(row | {"validation": chosen})
    return found


def of_method(config: Config, trial: Trial, start: learners.Learned | None, name: str) -> learners.Learned:
    """One of learners.HANDED_OUT."""
    if name == baselines.SOLVED:
        return learners.solve(config, trial, start)[0]
    return train.fit(baselines.methods(config)[name], trial, name, None, start)[0]


def intervals(config: Config, world: int, place: Path) -> list[dict]:
    """All settings of a world: how many true effects of the test lie in the intervals of what is handed out.

    That alone is trained on the simulated truths, which changes nothing of its intervals.
    """
    found = []
    for setting, of, trial in settings(config, world, place):
        start = learners.start_of(of, trial, once(place)(learners.SOURCE))
        networks = {name: of_method(of, trial, start, name) for name in learners.HANDED_OUT}
        pick = learners.chosen(learners.losses(networks, trial))

        def fit_one(config: Config, trial: Trial, _: Callable, pick: str = pick) -> tuple[dict, dict]:
            return {pick: of_method(config, trial, learners.start_of(config, trial, None), pick)}, {}

        hard = simulate.as_hard(trial, start)
        factor = simulate.factor(simulate.tried(of, trial, fit_one, lambda name: None, hard), pick)
        rows, truth = trial.rows[trial.of("test")], np.diff(trial.truth[trial.of("test")], axis=1)[:, 0]
        row = setting | {"method": pick, "noise": hard.noise, "moved": hard.moved}
        for name, asked in (("calibrated", factor), ("normal", None)):
            whole = answers.finish(of, trial, networks[pick], asked, answers.overlap(trial))
            told = answers.given(whole, rows, share=0.0)
            row |= {
                f"{name}_covered": ((told["low"] <= truth) & (truth <= told["high"])).mean(),
                f"{name}_width": (told["high"] - told["low"]).mean(),
            }
        found.append(row | {"needed": 2 * np.quantile(np.abs(told["effect"] - truth), 0.95)})
    return found


def ihdp(config: Config, folder: Path, number: int, names: list[str], place: Path) -> list[dict]:
    """A replication: networks by their names, and the rivals."""
    columns = ["treatment", "outcome", "counterfactual", "mu0", "mu1", *(f"x{one}" for one in range(1, 26))]
    table = pd.read_csv(folder / f"ihdp_npci_{number}.csv", header=None, names=columns)
    order = np.random.default_rng(number).permutation(len(table))
    split = np.full(len(table), "train", object)
    split[order[: round(0.1 * len(table))]] = "test"
    split[order[round(0.1 * len(table)) : round(0.37 * len(table))]] = "val"
    table.drop(columns="counterfactual").assign(split=split).to_csv(place / "ihdp.csv", index=False)
    config = fields.replace(config, data=str(place / "ihdp.csv"), seed=number)
    trial = train.load(config)
    networks, _ = learners.rivals(config, trial)
    for name in names:
        networks[name] = train.fit(dataclasses.replace(config, backbone=name), trial, name)[0]
    losses = learners.losses(networks, trial)
    within, tested = np.concatenate([trial.of("train"), trial.of("val")]), trial.of("test")
    return [
        {"replication": number, "method": name, "within": root_pehe(one, trial, within)}
        | {"out_of_sample": root_pehe(one, trial, tested), "validation": losses[name].mean()}
        for name, one in networks.items()
    ]


def table_of_trials(rows: pd.DataFrame) -> str:
    """Markdown: a row per method, a column per setting; then the differences to the best rival."""
    settings = [(move, count) for count in ROWS for move in MOVES]
    lines = ["| method | " + " | ".join(f"{count}, {move}" for move, count in settings) + " |"]
    lines.append("| --- " * (1 + len(settings)) + "|")
    for name in dict.fromkeys(rows["method"]):
        cells = []
        for move, count in settings:
            of = rows[(rows["move"] == move) & (rows["rows"] == count)]
            of = of.pivot(index="world", columns="method", values="root_pehe")
            cells.append(f"{of[name].mean():.2f} ± {of[name].std():.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(rows: pd.DataFrame) -> str:
    """What is handed out less the rival that is best in the mean, within a world, +- standard error."""
    lines = []
    for count in ROWS:
        for move in MOVES:
            of = rows[(rows["move"] == move) & (rows["rows"] == count)]
            of = of.pivot(index="world", columns="method", values="root_pehe")
            rival = of[[one for one in RIVALS if one in of]].mean().idxmin()
            for name in (baselines.SOLVED, "staged", "handed out"):
                apart = of[name] - of[rival]
                error = apart.std() / np.sqrt(len(apart))
                lines.append(f"{count}, {move}: {name} less {rival} {apart.mean():+.2f} ± {error:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--backbone", default="TARNet", help="of the small trials")
    parser.add_argument("--intervals", action="store_true", help="judge intervals; writes another table")
    parser.add_argument("--ihdp", type=Path, help="folder of ihdp_npci_1.csv and so on")
    parser.add_argument("--replications", type=int, default=10)
    parser.add_argument("--networks", nargs="+", default=["TARNet", "DragonNet"], help="of IHDP")
    parser.add_argument("--epochs", type=int, help="of IHDP")
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates of the stages")
    parser.add_argument(
        "--out", type=Path, help="treatment_effects.csv, or with --intervals effect_intervals.csv"
    )
    parser.add_argument("--picture", type=Path, help="an .svg file of the small trials' errors")
    options = parser.parse_args()
    options.out = options.out or Path(
        "effect_intervals.csv" if options.intervals else "treatment_effects.csv"
    )
    config = IHDP if options.ihdp else Config(backbone=options.backbone)
    if options.weight_decay is not None:
        config = dataclasses.replace(config, weight_decay=options.weight_decay)
    stages = config.stages
    if options.epochs:
        stages = tuple(dataclasses.replace(one, epochs=options.epochs) for one in stages)
    for number, rate in enumerate(options.rates or ()):
        changed = dataclasses.replace(stages[number], learning_rate=rate)
        stages = (*stages[:number], changed, *stages[number + 1 :])
    config = dataclasses.replace(config, stages=stages)
    key, last = ("replication", options.replications) if options.ihdp else ("world", options.worlds)
    table = pd.read_csv(options.out) if options.out.is_file() else pd.DataFrame(columns=[key])
    for number in range(1, last + 1) if options.ihdp else range(last):
        if number in set(table[key]):
            continue
        with tempfile.TemporaryDirectory(prefix="thaw-effects-") as place:
            if options.ihdp:
                rows = ihdp(config, options.ihdp, number, options.networks, Path(place))
            else:
                rows = (intervals if options.intervals else small_trials)(config, number, Path(place))
        table = (
            pd.concat([table, pd.DataFrame(rows)], ignore_index=True) if len(table) else pd.DataFrame(rows)
        )
        atomic.write_csv(options.out, table)
    if options.ihdp:
        shown = table.groupby("method", sort=False)[["within", "out_of_sample", "validation"]]
        print(shown.agg(["mean", "sem"]).to_string(float_format=lambda number: f"{number:.2f}"))
    elif options.intervals:
        print(table.to_string(index=False, float_format=lambda number: f"{number:.2f}"))
    else:
        print(table_of_trials(table), differences(table), sep="\n\n")
        if options.picture:
            drawn = ("from scratch", "ridge T-learner", "as it came", "handed out")
            pictures.bars(table, drawn, options.picture)


if __name__ == "__main__":
    with flags.exit_on_input_error():
        main()
