"""Which way a number of the logs is better: as its metric says, whatever it is called."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from runner.errors import InputError
from runner.stage import Stage
from runner.training import monitor
from runner.training.fit import fit_stages
from runner.training.stages import StagedUnfreezing


def dice(truth, answer):
    return answer[:, 0]


METRICS = [
    "accuracy",
    "AUC",
    "mse",
    keras.metrics.AUC(name="auc_1"),
    keras.metrics.F1Score("macro", name="f1"),
    keras.metrics.MeanIoU(2, name="mean_io_u"),
    keras.metrics.KLDivergence(name="apart"),
    keras.metrics.FalsePositives(name="wrong"),
    keras.losses.Huber(name="far"),
    dice,
]


def compiled(small_model, metrics=METRICS):
    model, blocks = small_model()
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), weighted_metrics=metrics)
    return model, blocks


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val_loss", 1),
        ("loss", 1),
        ("val_boxes_loss", 1),
        ("val_accuracy", -1),
        ("val_AUC", -1),
        ("val_auc_1", -1),
        ("val_f1", -1),
        ("val_mean_io_u", -1),
        ("val_apart", 1),
        ("val_mse", 1),
        ("val_far", 1),
        ("val_mask_auc_1", -1),  # of an output called "mask"
        ("val_my_iou", -1),  # of a function
    ],
)
def test_the_metric_itself_says_which_way_it_goes(small_model, name, expected):
    model, _ = compiled(small_model)
    assert monitor.sign(model, name, "auto") == expected
    assert monitor.sign(model, name, "max") == -1 and monitor.sign(model, name, "min") == 1


@pytest.mark.parametrize("name", ["val_dice", "val_wrong", "val_nothing", "val_auc_2"])
def test_what_nobody_knows_is_asked_for_before_the_first_epoch(small_model, small_data, name):
    model, blocks = compiled(small_model)
    with pytest.raises(InputError, match=f"monitor='{name}': .* give mode='max' or mode='min'.*val_auc_1"):
        fit_stages(model, *[batches(small_data)] * 2, [Stage("a", epochs=1)], blocks, monitor=name)


def test_a_stage_that_picks_nothing_needs_no_direction(small_model, small_data):
    model, blocks = compiled(small_model, [dice])
    last = [Stage("a", epochs=1, keep="last")]
    assert len(fit_stages(model, *[batches(small_data)] * 2, last, blocks, monitor="val_dice").history) == 1


def batches(small_data):
    return tf.data.Dataset.from_tensor_slices(small_data).batch(20)


def test_the_best_epoch_is_the_best_and_not_the_worst(small_model, small_data):
    model, blocks = compiled(small_model, [keras.metrics.AUC(name="auc_1", from_logits=True)])
    seen = []

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:  # from here on the answers are all alike
                model.get_layer("head").kernel.assign(np.zeros((4, 4)))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["val_auc_1"])

    staged = StagedUnfreezing([Stage("a", epochs=3, learning_rate=1e-4)], blocks, monitor="val_auc_1")
    data = batches(small_data)
    model.fit(data, validation_data=data, epochs=3, callbacks=[staged, Spoil()], verbose=0)
    assert max(seen) > min(seen)
    found = model.evaluate(data, return_dict=True, verbose=0)["auc_1"]
    assert found == pytest.approx(max(seen), abs=1e-6)
