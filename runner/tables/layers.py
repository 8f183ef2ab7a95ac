"""Layers that take rows as they are: what is missing has a place of its own, and preprocessing is part of the
network.

`keras.utils.FeatureSpace` does the same for tables without missing values: of a missing number it makes NaN,
and of a missing category an unseen one. Its round trip holds in Keras 3.15 (keras #18246 is mended).
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runner.tables import columns as columns_of
from runner.tables.columns import FIRST, Column

FARTHEST = 5.0
"""Standard deviations from the mean at which a number's value ends: what lies beyond is as good as there."""
YEAR = 365.2425
VALUE_PART, GONE_PART, UNSEEN_PART = "value", "missing", "unseen"
"""What features are called that all columns have, or all categories."""


@keras.saving.register_keras_serializable(package="thaw")
class Prepared(keras.layers.Layer):
    """Rows, float32 (batch, columns) as `columns.coded` makes them, to features, float32 (batch, features).

    A number becomes (x - mean) / spread, at most FARTHEST away from 0, and an indicator that is 1 where it is
    missing, and its value 0; a date the same and sine and cosine of its day in the year; a category an
    indicator for each place: missing, unseen, and each word of its vocabulary. `of_column` has the place of
    the column that each feature is of.

    columns: of `columns.record`.
    """

    def __init__(self, columns: Sequence[dict[str, Any]], **options: Any):
        options = {"trainable": False} | options | {"dtype": "float32"}
        super().__init__(**options)
        self.record = [dict(one) for one in columns]
        self.columns = columns_of.of_record(self.record)
        kinds = [one.kind for one in self.columns]
        self.continuous = [place for place, kind in enumerate(kinds) if kind != "category"]
        self.dates = [place for place, kind in enumerate(kinds) if kind == "date"]
        self.categories = [place for place, kind in enumerate(kinds) if kind == "category"]
        sizes = [self.columns[place].places for place in self.categories]
        self.offsets = np.cumsum([0, *sizes])[:-1].astype("int32")
        self.indicators = int(sum(sizes))
        self.of_column = np.array(
            [
                *self.continuous,
                *self.continuous,
                *self.dates,
                *self.dates,
                *np.repeat(self.categories, sizes).astype(int),
            ],
            dtype=np.int64,
        )
        words = [
            (self.columns[place].name, word)
            for place in self.categories
            for word in (GONE_PART, UNSEEN_PART, *(f"={one}" for one in self.columns[place].vocabulary))
        ]
        of = [
            (VALUE_PART, self.continuous),
            (GONE_PART, self.continuous),
            ("sin", self.dates),
            ("cos", self.dates),
        ]
        parts = [(self.columns[place].name, part) for part, places in of for place in places]
        self.names = [*parts, *words]
        """What each feature is: the name of its column, and which part of it."""
        self.is_value = np.arange(len(self.of_column)) < len(self.continuous)
        """Which features are the value of a number or a date."""
        self.is_gone = np.zeros(len(self.of_column), bool)
        """Which features say that a value is missing."""
        self.is_gone[len(self.continuous) : 2 * len(self.continuous)] = True
        self.is_gone[len(self.of_column) - self.indicators + self.offsets] = True

    def call(self, rows: Any) -> Any:
        ops, parts = keras.ops, []
        if self.continuous:
            of = [self.columns[place] for place in self.continuous]
            values = ops.take(rows, self.continuous, axis=1)
            gone = ops.isnan(values)
            mean, spread = (
                np.array([getattr(one, name) for one in of], "float32") for name in ("mean", "spread")
            )
            scaled = ops.clip((values - mean) / spread, -FARTHEST, FARTHEST)
            parts += [ops.where(gone, 0.0, scaled), ops.cast(gone, "float32")]
        if self.dates:
            days = ops.take(rows, self.dates, axis=1)
            gone = ops.isnan(days)
            # What is missing is the second argument: tf2onnx writes the other order as a product, in which
            # NaN stays NaN.
            angle = 2 * np.pi * ops.where(gone, 0.0, days) / YEAR
            parts += [ops.where(gone, 0.0, turn(angle)) for turn in (ops.sin, ops.cos)]
        if self.categories:
            places = ops.cast(ops.take(rows, self.categories, axis=1), "int32") + self.offsets
            parts.append(ops.multi_hot(places, num_classes=self.indicators, dtype="float32"))
        return ops.concatenate(parts, axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], len(self.of_column))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"columns": self.record}


@keras.saving.register_keras_serializable(package="thaw")
class Chosen(keras.layers.Layer):
    """Some of the features, (batch, features) to (batch, len(places))."""

    def __init__(self, places: Sequence[int], **options: Any):
        super().__init__(**options)
        self.places = [int(one) for one in places]

    def call(self, features: Any) -> Any:
        return keras.ops.take(features, self.places, axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], len(self.places))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"places": self.places}


@keras.saving.register_keras_serializable(package="thaw")
class Hidden(keras.layers.Layer):
    """In training a share of the cells of each row becomes missing, drawn anew each time; else the rows stay.

    rate: the share, 0 to below 1. columns: of `columns.record`.
    """

    def __init__(
        self, rate: float, columns: Sequence[dict[str, Any]], seed: int | None = None, **options: Any
    ):
        super().__init__(**(options | {"dtype": "float32"}))
        self.rate, self.record, self.seed = rate, [dict(one) for one in columns], seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        kinds = [one["kind"] for one in self.record]
        self.gone = np.array([columns_of.GONE if kind == "category" else np.nan for kind in kinds], "float32")

    def call(self, rows: Any, training: bool | None = None) -> Any:
        if not training or not self.rate:
            return rows
        drawn = keras.random.uniform(keras.ops.shape(rows), seed=self.seed_generator)
        return keras.ops.where(drawn < self.rate, self.gone, rows)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate, "columns": self.record, "seed": self.seed}


@keras.saving.register_keras_serializable(package="thaw")
class ColumnTokens(keras.layers.Layer):
    """A vector for each column, and one more that reads them: features (batch, features) to float (batch,
    columns + 1, width), the reading one first.

    The vector of a column is b_c plus the sum of x_f w_f over its features f (Gorishniy et al. 2021,
    "Revisiting Deep Learning Models for Tabular Data", arXiv:2106.11959, the feature tokenizer: for a number
    x w + b, for a category the row of its embedding); a missing value has a vector of its own.

    of_column: of `Prepared`, the column of each feature.
    """

    def __init__(self, width: int, of_column: Sequence[int], **options: Any):
        super().__init__(**options)
        self.width, self.of_column = width, [int(one) for one in of_column]
        self.count = max(self.of_column) + 1
        self.member = (np.arange(self.count)[:, None] == np.array(self.of_column)).astype("float32")

    def build(self, input_shape: tuple) -> None:
        limit = keras.initializers.RandomUniform(-(self.width**-0.5), self.width**-0.5)
        self.kernel = self.add_weight((len(self.of_column), self.width), limit, name="kernel")
        self.bias = self.add_weight((self.count, self.width), limit, name="bias")
        self.reading = self.add_weight((1, self.width), limit, name="reading")

    def call(self, features: Any) -> Any:
        ops = keras.ops
        features = ops.cast(features, self.compute_dtype)
        apart = ops.expand_dims(features, 1) * ops.cast(self.member, self.compute_dtype)
        tokens = ops.matmul(apart, ops.cast(self.kernel, self.compute_dtype))
        tokens = tokens + ops.cast(self.bias, self.compute_dtype)
        reading = ops.cast(self.reading, self.compute_dtype) + 0 * tokens[:, :1]
        return ops.concatenate([reading, tokens], axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.count + 1, self.width)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width, "of_column": self.of_column}


@keras.saving.register_keras_serializable(package="thaw")
class Days(keras.layers.Layer):
    """Dates as ISO 8601 writes them, strings (batch,), to days from 1970-01-01, float32 (batch,); NaN for
    what is none. The time of the day is left out.
    """

    def call(self, dates: Any) -> Any:
        there = tf.strings.regex_full_match(dates, columns_of.DATE.pattern)
        plain = tf.where(there, dates, "1970-01-01")
        parts = [tf.strings.substr(plain, *place) for place in ((0, 4), (5, 2), (8, 2))]
        year, month, day = (tf.strings.to_number(part, tf.int32) for part in parts)
        # Years that begin in March, so that a leap day is the last one (Howard Hinnant, "days_from_civil").
        year = tf.where(month <= 2, year - 1, year)
        turned = (month + 9) % 12
        number = 365 * year + year // 4 - year // 100 + year // 400 + (153 * turned + 2) // 5 + day - 1
        lengths = tf.constant([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
        whole = tf.where(month <= 2, year + 1, year)
        leap = (month == 2) & (whole % 4 == 0) & ((whole % 100 != 0) | (whole % 400 == 0))
        real = (month >= 1) & (month <= 12)
        longest = tf.gather(lengths, tf.clip_by_value(month, 0, 12)) + tf.cast(leap, tf.int32)
        real &= (day >= 1) & (day <= longest)
        return tf.where(there & real, tf.cast(number - 719468, tf.float32), np.nan)

    def compute_output_spec(self, dates: Any) -> keras.KerasTensor:
        return keras.KerasTensor(dates.shape, "float32")


# ---------------------------------------------------------------- a network for columns as they are


NETWORK = "thaw_network"
"""What the network of rows is called within one of columns."""


def input_names(columns: Sequence[Column]) -> list[str]:
    """What a network of `of_columns` calls its inputs: as the columns are called, with "_" for the "/" that
    Keras does not take, and a number where two would be alike.
    """
    names: list[str] = []
    for column in columns:
        name = column.name.replace("/", "_")
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def of_columns(network: keras.Model, columns: Sequence[Column]) -> keras.Model:
    """A network of rows, float32 (batch, columns), as one of the columns themselves: a dict name -> (batch,).

    Numbers are float32, NaN where missing; categories and dates are strings, "" where missing. The names are
    those of `input_names`.
    """
    inputs, cells = {}, []
    for place, (name, column) in enumerate(zip(input_names(columns), columns, strict=True)):
        dtype = "float32" if column.kind == "number" else "string"
        given = inputs[name] = keras.Input((), dtype=dtype, name=name)
        if column.kind == "date":
            given = Days(name=f"thaw_days_{place}")(given)
        elif column.kind == "category":
            words = list(column.vocabulary) or ["\x00"]  # Keras wants one; no cell is that
            lookup = keras.layers.StringLookup(vocabulary=words, mask_token="", name=f"thaw_places_{place}")
            given = keras.layers.Rescaling(1.0, name=f"thaw_place_{place}")(lookup(given))
        cells.append(keras.layers.Reshape((1,), name=f"thaw_cell_{place}")(given))
    row = keras.layers.Concatenate(name="thaw_row")(cells) if len(cells) > 1 else cells[0]
    inner = keras.Model(network.input, network.output, name=NETWORK)
    return keras.Model(inputs, inner(row), name=network.name)


def of_rows(network: keras.Model) -> keras.Model:
    """The network of rows within one of `of_columns`; any other as it is."""
    inside = [layer for layer in network.layers if layer.name == NETWORK]
    return inside[0] if inside and isinstance(inside[0], keras.Model) else network


def columns_in(network: keras.Model) -> tuple[Column, ...]:
    """The columns that a network was made for; () where it takes no rows."""
    found = [layer for layer in of_rows(network).layers if isinstance(layer, Prepared)]
    return found[0].columns if found else ()


def as_inputs(cells: Any, columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """Cells, a DataFrame of str as of `columns.blank`, as a network of `of_columns` takes them."""
    inputs = {}
    for name, column in zip(input_names(columns), columns, strict=True):
        there = cells[column.name] if column.name in cells else None
        if column.kind == "number":
            values = np.full(len(cells), np.nan) if there is None else columns_of.numbers(there)
            inputs[name] = values.astype("float32")
        else:
            inputs[name] = np.array([""] * len(cells) if there is None else list(there), dtype=str)
    return inputs


assert FIRST == 2  # StringLookup with a mask token counts so
