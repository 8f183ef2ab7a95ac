"""What learners answer in the same episodes, and the numbers that are taken from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import scipy.special

from runner.networks import inference
from runner.scores import paired

from . import method
from .classes import Arrays
from .episodes import Episodes


@dataclass(frozen=True)
class Learner:
    """A way to answer episodes."""

    network: keras.Model | None
    """Pictures to features; None for the pictures as they are."""
    answer: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = method.nearest_mean
    """Scores from features, support and what is asked; see `method`."""
    trained: int = 0
    """How many single weights were trained before the episodes."""

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """What the network gives, a row per picture."""
        if self.network is None:
            return pictures
        step = inference.forward(self.network)
        parts = [step(pictures[start : start + 64]).numpy() for start in range(0, len(pictures), 64)]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Judged:
    """What one learner answered in all episodes."""

    episodes: Episodes
    ids: np.ndarray
    """int64 (pictures,): of the rows that the episodes name."""
    classes: tuple[str, ...]
    scores: Mapping[int, np.ndarray]
    """Shots -> float32 (episodes, ways * queries, ways)."""
    strange: Mapping[int, np.ndarray]
    """Shots -> float32 (episodes, strangers, ways): pictures of classes that the episode does not have."""
    shots: int
    """Those that methods are compared by."""

    def right(self, shots: int) -> np.ndarray:
        """The share of right answers in each episode, float64 (episodes,)."""
        return (self.scores[shots].argmax(axis=2) == self.episodes.answers).mean(axis=1)


def judge(
    learners: Mapping[str, Learner],
    arrays: Arrays,
    drawn: Episodes,
    all_shots: Sequence[int],
    compare_shots: int,
    classes: Sequence[str],
) -> dict[str, Judged]:
    """Let every learner answer the same episodes. arrays: of `classes.arrays`."""
    ids, _, pictures = arrays
    count = len(drawn.query)
    asked = np.concatenate([drawn.query.reshape(count, -1), drawn.strangers], axis=1)
    judged, own = {}, drawn.answers.shape[1]
    for name, learner in learners.items():
        rows = learner.features(pictures)
        found = {
            shots: learner.answer(rows, drawn.support[:, :, :shots], asked) for shots in sorted(all_shots)
        }
        judged[name] = Judged(
            drawn,
            ids,
            tuple(classes),
            {shots: scores[:, :own] for shots, scores in found.items()},
            {shots: scores[:, own:] for shots, scores in found.items()},
            compare_shots,
        )
    return judged


def metrics(judged: Judged) -> dict[str, Any]:
    """Numbers of one learner: accuracy (of compare_shots) and its interval, and those of each number of
    shots.

    The 95 % interval is that of a bootstrap over episodes: it says how well the mean over episodes of these
    very classes and pictures is known, and nothing of other classes.
    """
    found = {shots: interval(judged.right(shots)) for shots in judged.scores}
    each: dict[str, Any] = {}
    for shots, (value, low, high, _) in found.items():
        each |= {f"accuracy_{shots}_shot": value, f"accuracy_{shots}_shot_interval": [low, high]}
    value, low, high, _ = found[judged.shots]
    used = np.unique(judged.episodes.query)
    return {
        "accuracy": value,
        "accuracy_interval": [low, high],
        "episodes": len(judged.episodes.query),
        "ways": judged.episodes.query.shape[1],
        "shots": judged.shots,
        **each,
        "examples": len(used),
    }


def interval(values: np.ndarray) -> paired.Difference:
    """The mean of a number of each episode, with its interval."""
    return paired.of_means(np.zeros(len(values)), values)


def predictions(judged: Judged, temperature: float = 1.0) -> pd.DataFrame:
    """A row per query: episode, id, label, prediction (Categoricals) and confidence, a probability."""
    scores, episodes = judged.scores[judged.shots], judged.episodes
    chosen = scores.argmax(axis=2)
    kind = pd.CategoricalDtype(list(judged.classes))
    codes = [np.take_along_axis(episodes.classes, one, axis=1).ravel() for one in (episodes.answers, chosen)]
    label, prediction = (pd.Categorical.from_codes(one, dtype=kind) for one in codes)
    sure = scipy.special.softmax(scores / temperature, axis=2).max(axis=2)
    count, queries = chosen.shape
    return pd.DataFrame(
        {
            "episode": np.repeat(np.arange(count), queries),
            "id": judged.ids[episodes.query.reshape(count, -1)].ravel(),
            "label": label,
            "prediction": prediction,
            "confidence": sure.ravel().astype(np.float32),
        }
    )


# ---------------------------------------------------------------- how sure, and none of these


def temperature(judged: Judged) -> float:
    """What scores are divided by so that their softmax is most likely on these episodes (Guo et al. 2017)."""
    scores, answers = judged.scores[judged.shots], judged.episodes.answers[..., None]
    tried = 10.0 ** np.arange(-3, 3, 0.1)

    def loss(one: float) -> float:
        return -float(np.take_along_axis(scipy.special.log_softmax(scores / one, axis=2), answers, 2).mean())

    return float(min(tried, key=loss))


def thresholds(judged: Judged) -> dict[str, float]:
    """For each number of shots the score below which a picture is none of these: where the share of the
    episode's own that are kept, less that of strangers that are, is largest (Youden 1950). {} without
    strangers.
    """
    found = {}
    for shots in judged.scores if judged.episodes.strangers.size else ():
        own, others = (np.sort(one[shots].max(axis=2).ravel()) for one in (judged.scores, judged.strange))
        places = np.quantile(np.concatenate([own, others]), np.linspace(0, 1, 1001))
        kept = 1 - np.searchsorted(own, places) / len(own)
        let_in = 1 - np.searchsorted(others, places) / len(others)
        found[str(shots)] = float(places[np.argmax(kept - let_in)])
    return found


def refusing(judged: Judged, at: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """What the thresholds do in these episodes, for each number of shots: threshold, kept (the share of the
    episode's own that are not refused), refused (the share of strangers that are), and auroc, the chance that
    one of its own scores higher than a stranger, which no threshold decides.
    """
    found = {}
    for shots, threshold in at.items() if judged.episodes.strangers.size else ():
        own, others = (one[int(shots)].max(axis=2).ravel() for one in (judged.scores, judged.strange))
        below = np.searchsorted(np.sort(others), own) / len(others)
        found[shots] = {
            "threshold": threshold,
            "kept": float((own >= threshold).mean()),
            "refused": float((others < threshold).mean()),
            "auroc": float(below.mean()),
        }
    return found


def chosen(validation: Mapping[str, Judged], order: Sequence[str]) -> str:
    """Which method is handed out, by validation episodes: the first of `order` that there is, or the best, if
    its 95 % interval over the same episodes lies above that.

    Where classes are easy all methods are nearly faultless, and the best of them is so by chance.
    """
    there = {name: validation[name].right(validation[name].shots) for name in order if name in validation}
    first, best = next(iter(there)), max(there, key=lambda name: there[name].mean())
    return best if paired.of_means(there[first], there[best]).low > 0 else first


def comparison(
    validation: Mapping[str, Judged],
    tested: Mapping[str, Judged] | None,
    fits: Mapping[str, Any],
    learners: Mapping[str, Learner],
    pretrained: Mapping[str, bool],
    pick: str,
    recipes: Mapping[str, str],
) -> pd.DataFrame:
    """A row per method, as `baselines.table` has it, and test_accuracy_<n>_shot for each number of shots.

    fits, validation: by the names of what was trained; learners: by those that are shown, where "from
    scratch" is the best of its lengths (recipes has the name of that).
    """
    rows = []
    for name, learner in learners.items():
        trained = recipes.get(name, name)
        row = {
            "method": name,
            "epochs": len(fits[trained].history),
            "trainable_parameters": learner.trained,
            "seconds": round(fits[trained].seconds, 1),
            "val_accuracy": float(validation[trained].right(validation[trained].shots).mean()),
        }
        if tested:
            judged = tested[name]
            own, best = judged.right(judged.shots), tested[pick].right(judged.shots)
            value, low, high, _ = interval(own)
            row |= {"test_accuracy": value, "low": low, "high": high}
        row |= {"pretrained": pretrained[name], "recipe": trained.partition(" for ")[2]}
        if tested:
            apart = paired.of_means(own, best)[:3] if name != pick else (np.nan,) * 3
            names = ("difference", "difference_low", "difference_high")
            row |= dict(zip(names, apart, strict=True))
            row |= {
                f"test_accuracy_{shots}_shot": float(judged.right(shots).mean()) for shots in judged.scores
            }
        rows.append(row)
    return pd.DataFrame(rows)
