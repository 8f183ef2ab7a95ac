"""A hospital and a small clinic in one made world: the same hidden risks of people lie behind the columns of
both, and behind the outcomes of both, which are others.

Every machine gets the same people: random numbers come from `np.random.RandomState`, whose streams are
frozen, and each part of a world has a stream of its own.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

PARTS = {"hospital": 10_000, "train": 1_500, "validation": 1_500, "test": 4_000}
"""Rows of each part; the last three are of the clinic."""
MEASURED = {
    "bmi": (26.0, 4.0),
    "pressure": (128.0, 15.0),
    "pulse": (74.0, 10.0),
    "glucose": (5.6, 1.1),
    "sodium": (140.0, 3.0),
    "potassium": (4.2, 0.4),
    "creatinine": (82.0, 16.0),
    "albumin": (42.0, 4.0),
    "haemoglobin": (140.0, 14.0),
    "platelets": (250.0, 55.0),
    "bilirubin": (11.0, 3.0),
    "temperature": (36.8, 0.4),
}
"""Numbers that both have: mean and standard deviation."""
NEW = {"lactate": (1.2, 0.4), "ferritin": (110.0, 40.0)}
"""Numbers that the clinic alone has: each shows a little of all risks, under much noise."""
ANSWERS = {
    "job": ("office", "workshop", "kitchen", "ward", "road"),
    "region": ("north", "south", "east", "west", "coast"),
    "diet": ("mixed", "meat", "fish", "plants", "fasting"),
}
"""Categories that both have."""
RISKS, OUTCOMES = 5, 8
NUMBERS, CATEGORIES, WORDS = len(MEASURED), len(ANSWERS), 5
PRODUCTS, BENT = 3, 0.8
"""Of how many products a risk is the sum, and what a bent column counts beside one."""
STRENGTH, BASE = 3.0, 1.5
"""What one standard deviation of all risks does to the log-odds of an outcome, and how rare it is."""
MISSING = 0.05
"""Of cells, by chance."""
FIRST_DAY, DAYS = pd.Timestamp("2021-03-01"), 1_200


class Part(NamedTuple):
    """Some people.

    numbers: float64 (n, NUMBERS) of mean 0 and spread 1, in the clinic with two more. categories: int (n,
    CATEGORIES). days: int (n,), of the visit, and site: int (n,), 0 or 1, which say nothing. gone: bool (n,
    NUMBERS + CATEGORIES), which cells are missing. outcomes: int (n, k), 0 or 1: OUTCOMES of the hospital,
    one of the clinic. chances: float64 (n, k), what they were drawn with: nobody can know better.
    """

    numbers: np.ndarray
    categories: np.ndarray
    days: np.ndarray
    site: np.ndarray
    gone: np.ndarray
    outcomes: np.ndarray
    chances: np.ndarray


class World:
    """Everything about a world that is the same for all its people: world number 0, 1, ..."""

    def __init__(self, number: int = 0):
        self.number = number
        random = np.random.RandomState([20, number])
        self.together = random.normal(0, 0.5, (NUMBERS, NUMBERS)) + np.eye(NUMBERS)
        self.products = np.stack([random.permutation(NUMBERS)[: 2 * PRODUCTS] for _ in range(RISKS)])
        self.bent = np.stack([random.permutation(NUMBERS)[:PRODUCTS] for _ in range(RISKS)])
        self.signs = random.choice([-1.0, 1.0], (RISKS, 2 * PRODUCTS))
        self.of_category = random.normal(0, 1, (RISKS, CATEGORIES, WORDS))
        self.weights = random.normal(0, 1, (OUTCOMES + 1, RISKS))
        self.new = random.normal(0, 1, (RISKS, 2))

    def part(self, name: str) -> Part:
        """The people of one part."""
        count = PARTS[name]
        random = np.random.RandomState([21, self.number, list(PARTS).index(name)])
        numbers = random.normal(size=(count, NUMBERS)) @ self.together
        numbers = numbers / np.sqrt((self.together**2).sum(axis=0))
        categories = random.randint(0, WORDS, (count, CATEGORIES))
        days, site = random.randint(0, DAYS, count), random.randint(0, 2, count)
        gone = random.random_sample((count, NUMBERS + CATEGORIES)) < MISSING
        risks = self.risks(numbers, categories)
        shown = risks @ self.new / np.sqrt(RISKS) + 2 * random.normal(size=(count, 2))
        scores = self.scores(risks)
        of_hospital = name == "hospital"
        scores = scores[:, :OUTCOMES] if of_hospital else scores[:, OUTCOMES:]
        chances = 1 / (1 + np.exp(-scores))
        outcomes = (random.random_sample(chances.shape) < chances).astype(np.int64)
        numbers = numbers if of_hospital else np.hstack([numbers, shown])
        return Part(numbers, categories, days, site, gone, outcomes, chances)

    def risks(self, numbers: np.ndarray, categories: np.ndarray) -> np.ndarray:
        """The hidden risks, (n, RISKS), of spread 1 or so: each a sum of products of two columns, of bent
        single ones, and of what each category brings.
        """
        found = []
        for products, bent, signs, of_category in zip(
            self.products, self.bent, self.signs, self.of_category, strict=True
        ):
            both = numbers[:, products[:PRODUCTS]] * numbers[:, products[PRODUCTS:]]
            alone = BENT * np.tanh(2 * numbers[:, bent])
            of_jobs = 0.5 * sum(of_category[one][categories[:, one]] for one in range(CATEGORIES))
            found.append((np.hstack([both, alone]) @ signs + of_jobs) / np.sqrt(PRODUCTS * (1 + BENT**2) + 1))
        return np.stack(found, axis=1)

    def scores(self, risks: np.ndarray) -> np.ndarray:
        """The log-odds of every outcome, (n, OUTCOMES + 1), the clinic's last: sums of the risks."""
        raw = risks @ self.weights.T / np.sqrt((self.weights**2).sum(axis=1))
        return STRENGTH * raw - BASE


def table(world: World, name: str) -> pd.DataFrame:
    """The rows of a part as a table: numbers with NaN and words with "" where they are missing, the date of
    the visit, and outcome_1 to outcome_8 (0 or 1) of the hospital, or label ("no" or "yes") and subgroup of
    the clinic.
    """
    part = world.part(name)
    columns: dict = {}
    units = MEASURED if name == "hospital" else MEASURED | NEW
    for place, (column, (mean, spread)) in enumerate(units.items()):
        values = np.round(
            mean + spread * part.numbers[:, place], 0 if spread >= 10 else 1 if spread >= 2 else 2
        )
        if place < NUMBERS:
            values[part.gone[:, place]] = np.nan
        columns[column] = values
    for place, (column, words) in enumerate(ANSWERS.items()):
        said = np.array(words, dtype=object)[part.categories[:, place]]
        said[part.gone[:, NUMBERS + place]] = ""
        columns[column] = said
    columns["visit"] = [str(FIRST_DAY + pd.Timedelta(days=int(day)))[:10] for day in part.days]
    if name == "hospital":
        columns |= {f"outcome_{number + 1}": part.outcomes[:, number] for number in range(OUTCOMES)}
    else:
        columns["subgroup"] = np.where(part.site == 0, "main house", "annexe")
        columns["label"] = np.where(part.outcomes[:, 0] == 1, "yes", "no")
    return pd.DataFrame(columns)
