"""What networks and rivals answer, told as tables: effects with intervals, scores, overlap, policies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from runner.errors import InputError
from runner.networks import saved
from runner.runs import folder as folders
from runner.scores import effects, intervals, paired
from runner.table_runs import effects_export
from runner.tables import columns as columns_of
from runner.tables import layers, sources
from runner.training import baselines
from runner.training.fit import Fit

from . import learners, model
from .config import Config
from .learners import Learned, Learner, Propensity
from .loading import ARMS, Trial
from .method import Outcome

EFFECT, OUTCOME = "effect_r2", "outcome_r2"
"""1 less the mean squared error as a share of the variance: of the true effects, where they are known, and of
the outcomes."""
NO_OVERLAP = "no overlap: nobody like this was in one of the arms"


def judge(networks: Mapping[str, Learner], batches: Sequence[dict]) -> dict[str, pd.DataFrame]:
    """See `train.judge`; batches: dicts of "id", "input" and "label"."""
    ids = np.concatenate([one["id"] for one in batches])
    rows = np.concatenate([one["input"] for one in batches])
    labels = np.concatenate([one["label"] for one in batches]).astype(np.float64)
    found = {}
    for name, one in networks.items():
        mu = one.expected(rows)
        found[name] = pd.DataFrame(
            {
                "id": ids,
                "treatment": labels[:, 0].astype(np.int64),
                "outcome": labels[:, 1],
                "untreated": mu[:, 0],
                "treated": mu[:, 1],
                "effect": mu[:, 1] - mu[:, 0],
            }
        )
    return found


def with_truth(judged: pd.DataFrame, examples: Trial) -> pd.DataFrame:
    """The same with what each row adds to the scores: outcome_r2, and with a truth true_effect, effect_r2."""
    given = judged[["untreated", "treated"]].to_numpy()[np.arange(len(judged)), judged["treatment"]]
    y = judged["outcome"].to_numpy()
    table = judged.assign(**{OUTCOME: 1 - (y - given) ** 2 / max(y.var(), 1e-12)})
    if examples.truth is None:
        return table
    truth = examples.truth[judged["id"]]
    true = truth[:, 1] - truth[:, 0]
    if true.var() < 1e-12:  # the same for everybody: there is no share of a variance
        return table.assign(true_effect=true)
    return table.assign(true_effect=true, **{EFFECT: 1 - (true - judged["effect"]) ** 2 / true.var()})


def score_of(predictions: pd.DataFrame) -> str:
    """What methods are compared by."""
    return EFFECT if EFFECT in predictions else OUTCOME


def metrics(predictions: pd.DataFrame, examples: Trial) -> dict[str, Any]:
    """The numbers of one network, with 95 % intervals of a bootstrap over rows or groups."""
    whole = intervals.units(examples.manifest["group"], predictions["id"])
    found: dict[str, Any] = {"examples": len(predictions)}
    for name in (EFFECT, OUTCOME):
        if name in predictions:
            value, low, high, _ = paired.of_means(np.zeros(len(predictions)), predictions[name], whole)
            found |= {name: value, f"{name}_interval": [low, high]}
    found["average_effect"] = float(predictions["effect"].mean())
    if "true_effect" in predictions:
        true, told = predictions["true_effect"].to_numpy(), predictions["effect"].to_numpy()
        _, low, high, _ = paired.of_means(np.zeros(len(true)), (true - told) ** 2, whole)
        found |= {
            "root_pehe": effects.root_pehe(true, told),
            "root_pehe_interval": [float(np.sqrt(low)), float(np.sqrt(high))],
            "average_error": effects.average_error(true, told),
        }
    return found


def per_arm(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row per arm: columns class, rows, outcome_r2 (within the arm's own rows), mean outcome as it was and
    as it was expected.
    """
    rows = []
    for arm, name in enumerate(ARMS):
        own = predictions[predictions["treatment"] == arm]
        error = (1 - own[OUTCOME]) * max(predictions["outcome"].var(ddof=0), 1e-12)
        spread = own["outcome"].var(ddof=0)
        r2 = float(1 - error.mean() / spread) if spread else np.nan
        told = float(own["treated" if arm else "untreated"].mean())
        rows.append((name, len(own), r2, float(own["outcome"].mean()), told))
    return pd.DataFrame(rows, columns=["class", "rows", OUTCOME, "mean_outcome", "expected_outcome"])


def explained(loss: np.ndarray, examples: Trial) -> float:
    """How much of validation's outcomes a factual loss of each row leaves explained: R squared, of a binary
    outcome McFadden's, 1 - cross-entropy / that of the mean.
    """
    y = examples.outcome[examples.of("val")]
    outcome = Outcome.of(examples.outcome[examples.of("train")])
    if outcome.binary:
        share = y.mean().clip(1e-6, 1 - 1e-6)
        return float(1 - loss.mean() / -(share * np.log(share) + (1 - share) * np.log(1 - share)))
    return float(1 - loss.mean() * outcome.spread**2 / max(y.var(), 1e-12))


# ---------------------------------------------------------------- overlap


@dataclass(frozen=True)
class Overlap:
    """Who can be compared: propensity, the share within which there is overlap, and how the arms differ."""

    propensity: Propensity
    share: float
    """Rows with a propensity outside of share..1-share have no overlap; 0 where all have it."""
    arms: pd.DataFrame
    balance: pd.DataFrame
    without: float
    """Share of the rows without overlap."""
    chances: np.ndarray
    """Propensities of the rows to learn from."""
    treatment: np.ndarray

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said before all else."""
        if not self.without:
            return ()
        return (
            f"Overlap is missing for {100 * self.without:.0f} % of the rows (a chance of treatment outside "
            f"{self.share:.2f} to {1 - self.share:.2f}): nobody like them was in one of the arms, and their "
            "effects are withheld.",
        )

    def record(self) -> dict[str, Any]:
        """For metrics.json, by which `predict` answers."""
        return {"share": self.share, "without": self.without}


def overlap(examples: Trial) -> Overlap:
    """Of the rows to train and to choose on; the test is not read."""
    propensity = learners.propensity(examples)
    ids = np.concatenate([examples.of("train"), examples.of("val")])
    chances, treatment = propensity.of(examples.rows[ids]), examples.treatment[ids]
    share = effects.trimmed(chances)
    columns = learners.prepared(propensity.prepare, examples.rows[ids])
    names = [name if part == layers.VALUE_PART else f"{name}: {part.removeprefix('=')}"
             for name, part in propensity.prepare.names]  # fmt: skip
    several = columns.std(axis=0) > 1e-9
    balance = effects.balance(
        columns[:, several],
        treatment,
        [name for name, there in zip(names, several, strict=True) if there],
        chances,
    )
    without = float(1 - effects.supported(chances, share).mean()) if share else 0.0
    return Overlap(
        propensity, share, effects.overlap(chances, treatment), balance, without, chances, treatment
    )


# ---------------------------------------------------------------- effects with intervals


def finish(config: Config, examples: Trial, learned: Learned, factor: float, overlap: Overlap) -> keras.Model:
    """The network that the run hands out; see `model.finished`."""
    spread = learners.on_features(config, examples, learned)
    chance = overlap.propensity.weights, overlap.propensity.constant
    return model.finished(learned.network, learned.outcome, spread, factor, chance)


def given(network: keras.Model, rows: np.ndarray, share: float) -> pd.DataFrame:
    """What a finished network says of rows: columns effect, low, high, untreated, treated, propensity, note;
    withheld where there is no overlap.
    """
    told = pd.DataFrame(learners._asked(network, rows), columns=list(effects_export.GIVEN))
    there = effects.supported(told["propensity"].to_numpy(), share)
    table = pd.DataFrame(
        {
            "effect": told["effect"],
            "low": told["effect"] - told["half_width"],
            "high": told["effect"] + told["half_width"],
            "untreated": told["untreated"],
            "treated": told["treated"],
        }
    )
    table[~there] = np.nan
    return table.assign(propensity=told["propensity"], note=np.where(there, "", NO_OVERLAP))


def withheld(predictions: pd.DataFrame, network: keras.Model, examples: Trial, share: float) -> pd.DataFrame:
    """The predictions as they are written: with intervals, without the effects that have no overlap.

    share: of `Overlap`. The scores of rows (outcome_r2, effect_r2) stay: everybody of a split counts in them,
    with overlap or without, so that methods are compared on the same people.
    """
    told = given(network, examples.rows[predictions["id"]], share)
    return predictions.reset_index(drop=True).assign(**{name: told[name] for name in told})


def share_of(run: str | Path) -> float:
    """The share of `Overlap` that a complete run found on the rows it learned from."""
    return float(folders.read_metrics(Path(run).expanduser()).get("overlap", {}).get("share", 0.0))


def of_tables(run: str | Path, inputs: Iterable[str | Path], batch_size: int) -> Iterator[pd.DataFrame]:
    """See `train.predict`; tables are read whole, and answered so many rows at a time."""
    folder = Path(run).expanduser()
    config, share = folders.read_complete(folder), share_of(folder)
    network = layers.of_rows(saved.load(folder))
    columns = layers.columns_in(network)
    if not columns or network.output_shape[-1] != len(effects_export.GIVEN):
        raise InputError(f"{folder}: its network takes no rows of a trial; give a run of this template.")
    number = 0
    for one in inputs:
        table = sources.find(one, label=config.get("treatment", "treatment"))
        cells = columns_of.blank(table.cells)
        lacking = [column.name for column in columns if column.name not in cells]
        if len(lacking) == len(columns):
            raise InputError(f"{one}: it has no column that the run knows ({', '.join(lacking[:8])}, ...).")
        rows = columns_of.coded(cells, columns)
        odd = _odd(rows, columns, lacking)
        for first in range(0, len(rows), max(batch_size, 1)):
            part = slice(first, first + batch_size)
            told = given(network, rows[part], share)
            notes = ["; ".join(filter(None, pair)) for pair in zip(told["note"], odd[part], strict=True)]
            told = told.assign(note=notes)
            told.insert(0, "row", table.names[part])
            told.index = pd.RangeIndex(number, number + len(told))
            number += len(told)
            yield told


def _odd(rows: np.ndarray, columns: Sequence[Any], lacking: list[str]) -> list[str]:
    """What is remarked on each row: columns that lack, and categories that nobody of the trial had."""
    always = f"without the column {', '.join(lacking)}" if lacking else ""
    found = [always] * len(rows)
    for place, column in enumerate(columns):
        if column.kind == "category":
            for row in np.flatnonzero(rows[:, place] == columns_of.UNSEEN):
                found[row] = "; ".join(filter(None, (found[row], f"{column.name} is new to it")))
    return found


# ---------------------------------------------------------------- policies and comparison


def usable(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows whose effects are not withheld."""
    return predictions[predictions["note"] == ""]


def policies(config: Config, predictions: pd.DataFrame, examples: Trial, overlap: Overlap) -> pd.DataFrame:
    """A row per policy on the test: the share it treats, and its value less the cost of treating, by inverse
    propensity and doubly robust, with 95 % intervals, and what it has more than treating nobody.

    Policies: nobody, everybody, and who is expected to gain more than the treatment costs.
    """
    rows = usable(predictions)
    if rows.empty or rows["treatment"].nunique() < 2:
        return pd.DataFrame(columns=["policy", "treated"])
    whole = intervals.units(examples.manifest["group"], rows["id"])
    treatment, y = rows["treatment"].to_numpy(), rows["outcome"].to_numpy()
    chance = overlap.propensity.of(examples.rows[rows["id"]])
    cost = np.array([0.0, config.policy_cost])
    robust = effects.doubly_robust(treatment, y, chance, rows["untreated"], rows["treated"]) - cost
    inverse = effects.inverse_propensity(treatment, y, chance) - cost
    found = []
    for name, policy in {
        "nobody": np.zeros(len(rows), int),
        "everybody": np.ones(len(rows), int),
        "who gains": (rows["effect"].to_numpy() > config.policy_cost).astype(int),
    }.items():
        row: dict[str, Any] = {"policy": name, "treated": float(policy.mean())}
        for kind, scores in (("inverse_propensity", inverse), ("doubly_robust", robust)):
            value, low, high = effects.policy_value(policy, scores, whole)
            row |= {kind: value, f"{kind}_low": low, f"{kind}_high": high}
        more = robust[np.arange(len(rows)), policy] - robust[:, 0]
        value, low, high = effects.mean(more, whole)
        found.append(row | {"more_than_nobody": value, "more_low": low, "more_high": high})
    return pd.DataFrame(found)


def by_group(predictions: pd.DataFrame, examples: Trial, overlap: Overlap) -> pd.DataFrame:
    """A row for everybody and for each subgroup of the test with both arms: rows, and the average effect,
    doubly robust, with its 95 % interval. What no row decides, the outcomes that were seen, is in it.
    """
    rows = usable(predictions)
    names = examples.manifest["subgroup"].reindex(rows["id"]).to_numpy(object)
    found = []
    for name in ["everybody", *sorted(set(names) - {""})]:
        own = rows if name == "everybody" else rows[names == name]
        if own["treatment"].nunique() < 2:
            continue
        chance = overlap.propensity.of(examples.rows[own["id"]])
        asked = own["treatment"], own["outcome"], chance, own["untreated"], own["treated"]
        scores = effects.doubly_robust(
            *(one.to_numpy(float) if hasattr(one, "to_numpy") else one for one in asked)
        )
        whole = intervals.units(examples.manifest["group"], own["id"])
        value, low, high = effects.mean(scores[:, 1] - scores[:, 0], whole)
        found.append((name, len(own), value, low, high))
    return pd.DataFrame(found, columns=["subgroup", "rows", "average_effect", "low", "high"])


def curve(predictions: pd.DataFrame, examples: Trial, overlap: Overlap) -> pd.DataFrame | None:
    """The uplift curve of the test rows with overlap; None where an arm is not there."""
    rows = usable(predictions)
    if rows.empty or rows["treatment"].nunique() < 2:
        return None
    chance = overlap.propensity.of(examples.rows[rows["id"]])
    return effects.uplift_curve(rows["effect"], rows["treatment"], rows["outcome"], chance)


def comparison(
    config: Config,
    networks: Mapping[str, Any],
    fits: Mapping[str, Fit],
    chosen_on: Mapping[str, float],
    tested: Mapping[str, pd.DataFrame] | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    pick: str = "",
    whole: np.ndarray | None = None,
) -> pd.DataFrame:
    """A row per method, as of `baselines.table`; validation has R squared of outcomes alone, by which nothing
    but the training from scratch is chosen. whole: of `intervals.units`, for the differences.
    """
    rows = []
    for name in networks:
        of_scratch = [one for one in chosen_on if baselines.called(one) == baselines.SCRATCH]
        trained = max(of_scratch, key=lambda one: chosen_on[one]) if name == baselines.SCRATCH else name
        row: dict[str, Any] = {"method": name}
        if tested and metrics:
            score = score_of(tested[name])
            low, high = metrics[name][f"{score}_interval"]
            row |= {f"test_{score}": metrics[name][score], "low": low, "high": high}
            if "root_pehe" in metrics[name]:
                row |= {"test_root_pehe": metrics[name]["root_pehe"]}
            apart = (np.nan, np.nan, np.nan)
            if name != pick:
                apart = paired.of_means(tested[name][score], tested[pick][score], whole)[:3]
            row |= dict(zip(("difference", "difference_low", "difference_high"), apart, strict=True))
        carried = config.weights != "none" and name in (baselines.AS_IT_CAME, *learners.HANDED_OUT)
        row |= {
            f"val_{OUTCOME}": chosen_on[trained],
            "epochs": len(fits[trained].history),
            "trainable_parameters": fits[trained].trained or 0,
            "seconds": round(fits[trained].seconds, 1),
            "pretrained": carried,
            "recipe": baselines.recipe(chosen_on) if name == baselines.SCRATCH else "",
        }
        rows.append(row)
    return pd.DataFrame(rows)
