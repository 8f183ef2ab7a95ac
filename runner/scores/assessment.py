"""How far a run's test numbers can be trusted: calibration, groups, and for two classes an operating point.

What has to be fitted or chosen (the temperature, the threshold) is taken from the validation predictions;
the test predictions, which the one opening of the test split gave, are only judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import scipy.special

from runner.scores import calibration, classification, operating_point
from runner.scores import groups as subgroups


@dataclass(frozen=True)
class OperatingPoint:
    """Between two classes: where to draw the line, chosen on validation, and what it gives on the test."""

    criterion: str
    validation: dict
    """Of `operating_point.at` on the examples that the threshold was chosen on."""
    test: dict
    areas: dict | None
    """Of `operating_point.areas`; None, as are the curves, where all test examples are of one class."""
    curves: tuple[pd.DataFrame, pd.DataFrame] | None


@dataclass(frozen=True)
class Assessment:
    """What `assess` found."""

    temperature: float
    """By which `predict` divides the logits; 1 where none could be fitted."""
    temperature_note: str
    """Why none could be fitted, or ""."""
    as_trained: dict
    """Of `calibration.error` on the test examples ..."""
    with_temperature: dict
    """... and after the temperature."""
    reliability: tuple[pd.DataFrame, pd.DataFrame]
    """Of `calibration.reliability`, before and after."""
    groups: pd.DataFrame | None
    """Of `groups.per_group`; None where no test example has a group."""
    gap: dict | None
    """Of `groups.largest_gap`."""
    operating_point: OperatingPoint | None
    """None for more than two classes, and where validation holds one of the two alone."""

    def record(self) -> dict:
        """What belongs into metrics.json: plain JSON types but for NaN."""
        record = {
            "temperature": self.temperature,
            "temperature_note": self.temperature_note,
            "calibration": {"as_trained": self.as_trained, "with_temperature": self.with_temperature},
        }
        if self.groups is not None:
            record["groups"] = {"largest_gap": self.gap, "table": self.groups.to_dict("records")}
        if self.operating_point is not None:
            point = self.operating_point
            record["operating_point"] = {
                "criterion": point.criterion,
                "validation": point.validation,
                "test": point.test,
                "areas": point.areas,
            }
        return record


def assess(
    validation: pd.DataFrame,
    test: pd.DataFrame,
    classes: Sequence[str],
    groups: pd.Series,
    positive: str = "",
    criterion: str = "youden",
    whole: pd.Series | None = None,
) -> Assessment:
    """Judge one model.

    Args:
        validation, test: its prediction tables, of `classification.tables`.
        classes: names, in the model's order.
        groups: the group of each example, indexed by id, "" for none; of `examples.compared_groups`.
        positive: of two classes the one to find; "" is the second.
        criterion: for the threshold between them, see `operating_point.choose`.
        whole: which examples belong together ("" for none, indexed by id): intervals draw them together.

    The threshold is a probability after the temperature, as `predict` gives it.
    """
    classes = classification.class_names(classes)
    temperature = calibration.temperature(validation, classes)
    note = calibration.remark(temperature)
    temperature = 1.0 if note else temperature
    scaled = calibration.scale(test, temperature, classes)

    table = gap = None
    if (subgroups.names(test, groups) != "").any():
        table = subgroups.per_group(test, groups, classes, whole)
        gap = subgroups.largest_gap(test, groups, classes, whole)

    point = None
    if len(classes) == 2:
        positive = positive or classes[1]
        threshold = operating_point.choose(validation, positive, criterion)
        if threshold is not None:
            # A temperature changes no order: chosen and judged without it, where float32 has no more ties
            # than the model gave, and then named as the probability that `predict` will write.
            named = {"threshold": _after_temperature(threshold, temperature)}
            point = OperatingPoint(
                criterion,
                operating_point.at(validation, positive, threshold, whole) | named,
                operating_point.at(test, positive, threshold, whole) | named,
                operating_point.areas(test, positive, whole),
                operating_point.curves(test, positive),
            )
    return Assessment(
        temperature=temperature,
        temperature_note=note,
        as_trained=calibration.error(test, classes, groups=whole),
        with_temperature=calibration.error(scaled, classes, groups=whole),
        reliability=(
            calibration.reliability(test, groups=whole),
            calibration.reliability(scaled, groups=whole),
        ),
        groups=table,
        gap=gap,
        operating_point=point,
    )


def _after_temperature(probability: float, temperature: float) -> float:
    """What a probability of two classes becomes: logit(p) / T back through the sigmoid."""
    return float(scipy.special.expit(scipy.special.logit(probability) / temperature))
