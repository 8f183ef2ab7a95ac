"""How much each example counts in training: by a weight of its own, by its class, or by both."""

import numpy as np
import pandas as pd

from runner.data.examples import Data
from runner.errors import InputError


def of_examples(data: Data, class_weight: str = "none") -> np.ndarray | None:
    """The weight of each row of the manifest, float32 (rows,), for `SplitBatches`; None: all count alike.

    data: its manifest may have a column "weight". class_weight: "none", or "balanced": with W the weights of
    the training examples together, W_c those of one class and k classes, what an example of c has is
    multiplied by W / (k W_c), so that all classes count alike, as scikit-learn's word means.

    Raises InputError where a class, or what is validated on, has no weight at all.
    """
    manifest = data.manifest
    if class_weight == "none" and "weight" not in manifest:
        return None
    own = manifest["weight"] if "weight" in manifest else pd.Series(1.0, manifest.index)
    weights, split = own.to_numpy("float64"), manifest["split"].to_numpy()
    for name in ("train", "val"):
        if not weights[split == name].any():
            raise InputError(f"the weights of all {data.unit} of the split {name} are 0; give some above 0.")
    if class_weight == "balanced":
        codes, train = manifest["label"].cat.codes.to_numpy(), split == "train"
        count = len(data.classes)
        totals = np.bincount(codes[train], weights[train], minlength=count)
        if not totals.all():
            raise InputError(
                f"class_weight='balanced' cannot weigh the class {data.classes[int(totals.argmin())]!r}: its "
                "training weights are all 0; give it some, or class_weight='none'."
            )
        factors = np.append(totals.sum() / (count * totals), 1.0)  # the last for rows without a class, -1
        weights = weights * factors[codes]
    return weights.astype("float32")
