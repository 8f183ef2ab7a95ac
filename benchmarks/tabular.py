"""ROC AUC of the methods of `templates.tabular` over worlds, folds and numbers of labelled rows.

    python -m benchmarks.tabular --seeds 5 --rows 30 100 300 1000
    python -m benchmarks.tabular --data adult --files FOLDER --seeds 3
    python -m benchmarks.tabular --data women other_work over_45 --files FOLDER --rows 50 --seeds 3
    python -m benchmarks.tabular --data breast_cancer german_credit horse_colic --files FOLDER --seeds 5

Of sister_tables (the default) each seed is another world, whose source is learned once for all numbers of
rows. Of the others a seed is a fold of five, and the files are those that UCI has, without names of columns:
adult*.csv, breast-cancer-wisconsin.csv, german.csv and horse-colic.csv in one folder. women, other_work and
over_45 are parts of adult, of which the other part is the source. So many rows are trained on, and as many
validate. Every result is a row of --out, in which an interrupted call finds what it has done already; what
it prints at the end is mean ± standard deviation, and the difference of each method to the strongest rival,
seed by seed, with its standard error.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import made, pictures
from runner import atomic, quiet
from runner.errors import InputError

SISTERS = "sister_tables"
FOLDS = 5
METHODS = (
    "logistic regression",
    "gradient boosting",
    "gradient boosting, pooled with the source",
    "scores of boosting on the source",
    "gradient boosting with those scores",
    "from scratch",
    "frozen + solved",
    "staged",
)
RIVALS = METHODS[:5]
"""What needs no network of ours: the strongest of them in the mean is what a difference is to."""
ADULT = (
    "age,work,weight,education,years,marital,occupation,relation,race,sex,gain,loss,hours,country,label"
).split(",")
PARTS = {
    "women": lambda table: table["sex"] == "Female",
    "other_work": lambda table: (table["work"] != "Private") & (table["work"] != "?"),
    "over_45": lambda table: pd.to_numeric(table["age"]) > 45,
}
SETS = {
    "breast_cancer": ("breast-cancer-wisconsin.csv", "v9", {}),
    "german_credit": ("german.csv", "v20", {}),
    # 24 to 27 say what was found at the operation: not known before. 2 is the number of the hospital.
    "horse_colic": (
        "horse-colic.csv",
        "v22",
        {"leave_out": ("v2", "v23", "v24", "v25", "v26", "v27"), "categories": ("v0", "v1")},
    ),
}
"""Of each: file, label, and settings of the template."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=[SISTERS])
    parser.add_argument("--files", default="", help="the folder of the files of the real sets")
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[], help="labelled rows to train on; none: all"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--backbone", default="residual-mlp")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--penalty", type=float, default=0.0)
    parser.add_argument("--out", default="tabular.csv")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--picture", type=Path, help="an .svg file of the worlds' areas over their rows")
    options = parser.parse_args()
    quiet.import_tensorflow()
    known = {SISTERS, "adult", *PARTS, *SETS}
    for data in options.data:
        if data not in known:
            raise InputError(f"--data {data}: give some of {', '.join(sorted(known))}.")
        if data != SISTERS and not Path(options.files).expanduser().is_dir():
            raise InputError(f"--files {options.files}: give the folder of the files of {data}.")
    out = Path(options.out)
    done = pd.read_csv(out) if out.is_file() else pd.DataFrame()
    for seed in range(options.first, options.first + options.seeds):
        for data in options.data:
            rows = [number for number in options.rows or [0] if not _there(done, data, seed, number, options)]
            if not rows:
                continue
            for found in one_seed(data, seed, rows, options):
                done = pd.concat([done, pd.DataFrame(found)], ignore_index=True)
                atomic.write_csv(out, done)
    show(done)
    if options.picture:
        worlds = done[done["data"] == SISTERS]
        wide = worlds.pivot_table(index=["rows", "seed"], columns="method", values="roc_auc")
        pictures.lines(wide, ("frozen + solved", METHODS[3], METHODS[1], "from scratch"), options.picture)


def _there(done: pd.DataFrame, data: str, seed: int, rows: int, options: argparse.Namespace) -> bool:
    if done.empty:
        return False
    same = (done["data"] == data) & (done["seed"] == seed) & (done["rows"] == rows)
    same &= (done["backbone"] == options.backbone) & (done["weights"] == options.weights)
    return bool((same & (done["penalty"] == options.penalty)).any())


def tables(data: str, seed: int, folder: Path, files: str) -> tuple[dict, float]:
    """Write the tables of a world or a fold; return settings of the template and the area that nobody can
    pass, NaN where that is unknown.
    """
    if data == SISTERS:
        return _world(seed, folder)
    home, settings = Path(files).expanduser(), {}
    if data == "adult" or data in PARTS:
        path = next(home.glob("adult*.csv"), None)
        if path is None:
            raise InputError(f"--files {files}: there is no adult*.csv.")
        table = pd.read_csv(path, names=ADULT, dtype=str, skipinitialspace=True)
        table["label"] = table["label"].str.rstrip(".")
        settings["leave_out"] = ("weight",)
        if data in PARTS:
            there = PARTS[data](table)
            table[~there].to_csv(folder / "source.csv", index=False)
            settings["source"] = str(folder / "source.csv")
            table = table[there].reset_index(drop=True)
    else:
        name, label, settings = SETS[data]
        table = pd.read_csv(home / name, header=None, dtype=str)
        table.columns = [f"v{number}" for number in range(table.shape[1])]
        table = table[table[label] != "?"].rename(columns={label: "label"}).reset_index(drop=True)
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed // FOLDS)
    tested = list(folds.split(table, table["label"]))[seed % FOLDS][1]
    rest = np.setdiff1d(np.arange(len(table)), tested)
    held = np.random.RandomState(seed).permutation(rest)[: max(20, len(rest) // 5)]
    table["split"] = "train"
    table.loc[tested, "split"], table.loc[held, "split"] = "test", "val"
    table.to_csv(folder / "data.csv", index=False)
    return settings | {"data": str(folder / "data.csv")}, float("nan")


def _world(number: int, folder: Path) -> tuple[dict, float]:
    from sklearn.metrics import roc_auc_score

    worlds = made.module("sister_tables", "worlds")
    world, parts = worlds.World(number), []
    worlds.table(world, "hospital").to_csv(folder / "hospital.csv", index=False)
    for part in ("train", "validation", "test"):
        parts.append(worlds.table(world, part).assign(split=part))
    pd.concat(parts).to_csv(folder / "clinic.csv", index=False)
    tested = world.part("test")
    bayes = float(roc_auc_score(tested.outcomes[:, 0], tested.chances[:, 0]))
    return {"data": str(folder / "clinic.csv"), "source": str(folder / "hospital.csv")}, bayes


def one_seed(data: str, seed: int, numbers: list[int], options: argparse.Namespace):
    """Learn the source once, then for each number of rows train all methods and open the test once; yields
    rows of results.
    """
    from runner.machine import Machine
    from runner.training import baselines
    from templates.tabular import model, rivals, train
    from templates.tabular.config import Config

    with tempfile.TemporaryDirectory() as folder:
        settings, bayes = tables(data, seed, Path(folder), options.files)
        source = scores = None
        for number in numbers:
            config = Config(
                **settings,
                train_rows=number or "all",
                backbone=options.backbone,
                weights=options.weights,
                start_penalty=options.penalty,
                machine=Machine(seed=seed),
            )
            examples, began = train.load(config), time.process_time()
            if source is None or model.begins(config) == "masked":
                source, _ = train.learn_source(config, examples)
            if scores is None and examples.related is not None:
                scores = rivals.of_source(config, examples)
            networks, fits = train.fit_rivals(config, examples, source, scores)
            for name, arm in train.arms(config).items():
                if baselines.called(name) in options.methods:
                    networks[name], fits[name] = train.fit(arm, examples, name, source=source)
            validation = train.judge(config, networks, examples.val, examples.classes)
            chosen = {name: train.tables(one, examples)[0]["roc_auc"] for name, one in validation.items()}
            networks = baselines.compared(networks, chosen)
            tested = train.judge(config, networks, examples.test.open(None, "benchmark"), examples.classes)
            yield [
                {
                    "data": data,
                    "seed": seed,
                    "rows": number,
                    "backbone": options.backbone,
                    "weights": options.weights,
                    "penalty": options.penalty,
                    "method": name,
                    "val_roc_auc": chosen.get(name, np.nan),
                    "roc_auc": train.tables(one, examples)[0]["roc_auc"],
                    "bayes": bayes,
                    "processor_seconds": round(time.process_time() - began, 1),
                }
                for name, one in tested.items()
            ]


def show(done: pd.DataFrame) -> None:
    """Print mean ± standard deviation, and differences to the strongest rival, as Markdown."""
    for (data, backbone, weights, penalty), part in done.groupby(["data", "backbone", "weights", "penalty"]):
        wide = part.pivot_table(index=["rows", "seed"], columns="method", values="roc_auc")
        names = [name for name in METHODS if name in wide]
        bayes = part["bayes"].mean()
        print(f"\n{data}, {backbone}, weights {weights}, penalty {penalty:g}; Bayes {bayes:.3f}\n")
        print("| rows | seeds | " + " | ".join(names) + " |")
        print("| --- " * (len(names) + 2) + "|")
        for rows, group in wide.groupby(level="rows"):
            cells = [f"{group[name].mean():.3f} ± {group[name].std():.3f}" for name in names]
            print(f"| {rows or 'all'} | {len(group)} | " + " | ".join(cells) + " |")
            rival = max((name for name in names if name in RIVALS), key=lambda name: group[name].mean())
            cells = []
            for name in names:
                apart = group[name] - group[rival]
                error = apart.std() / np.sqrt(len(apart))
                cells.append("" if name == rival else f"{apart.mean():+.3f} ({error:.3f})")
            print(f"| less {rival} | | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    from runner.flags import exit_on_input_error

    with exit_on_input_error():
        main()
