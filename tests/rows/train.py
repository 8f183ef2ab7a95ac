import hashlib

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.datasets import load_breast_cancer

from runner.data import examples as rows
from runner.data.batches import SplitBatches
from runner.data.sealed import Sealed
from runner.devices import strategy
from runner.networks import inference
from runner.networks.backbones import Block
from runner.report.card import Task
from runner.runs import folder as folders
from runner.runs import run as runs
from runner.scores import classification
from runner.training import baselines
from runner.training.fit import fit_stages
from runner.training.frozen import FrozenPrefix


def load(config):
    frame = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "label"})
    frame = frame if config.data == "breast_cancer" else pd.read_csv(config.data)
    numbers, names = frame.drop(columns="label").to_numpy("float32"), frame["label"].astype(str)
    manifest = pd.DataFrame({"path": [f"row {row}" for row in frame.index], "split": "", "group": ""})
    manifest["subgroup"], manifest["label"] = "", rows.labels_of(names, sorted(set(names)))
    manifest["sha256"] = [hashlib.sha256(row.tobytes()).hexdigest() for row in numbers]
    labels = manifest["label"].cat.codes.to_numpy(np.int64)
    options = {"val_fraction": config.val_fraction, "test_fraction": config.test_fraction, "unit": "rows"}
    manifest["split"] = rows.divide(manifest, labels, seed=config.machine.seed, **options)
    parts = [rows.ids(manifest, name) for name in ("train", "val", "test")]
    elements = [{"id": ids, "input": numbers[ids], "label": labels[ids]} for ids in parts]
    train, val, test = map(tf.data.Dataset.from_tensor_slices, elements)
    classes = tuple(manifest["label"].cat.categories)
    return rows.Data(train, val, Sealed(test), classes, manifest, rows.problems([]), unit="rows")


def build(config, examples):
    numbers = x = keras.Input(examples.train.element_spec["input"].shape, name="row")
    x = keras.layers.BatchNormalization(momentum=0.9, name="scaled")(x)
    for name in ("hidden1", "hidden2"):
        x = keras.layers.Dense(16, activation="relu", name=name)(x)
    logits = keras.layers.Dense(len(examples.classes), name="head")(x)
    blocks = Block("hidden1", ("scaled", "hidden1")), Block("hidden2", ("hidden2",))
    return keras.Model(numbers, logits, name="dense"), blocks


def fit(config, examples, name="", checkpoints=None):
    with strategy.scope(config.machine, config.backbone):
        network, blocks = build(config, examples)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        network.compile("adam", loss, metrics=["accuracy"], **strategy.compile_options(config.machine))
    train = SplitBatches(examples, "train", config.batch_size, shuffle=True, seed=config.machine.seed)
    validation = SplitBatches(examples, "val", config.batch_size)
    options = {"title": name, "checkpoints": checkpoints, "frozen": FrozenPrefix()}
    return network, fit_stages(network, train, validation, config.stages, blocks, **options)


def judge(config, networks, split, classes):
    return classification.tables(*inference.outputs(networks, split), classes)


def tables(judged, examples):
    per_class = classification.per_class(judged, examples.classes)
    return classification.metrics(judged, examples.classes), per_class, judged


def predict(run, inputs, *, folder=None, batch_size=64):
    network = keras.models.load_model(f"{run}/model.keras", compile=False)
    classes = folders.read_json(folders.Path(run) / "metrics.json")["classes"]
    for number, path in enumerate(inputs):
        p = keras.ops.softmax(network.predict(pd.read_csv(path).to_numpy("float32"), verbose=0)).numpy()
        columns = {"prediction": [classes[one] for one in p.argmax(1)], "confidence": p.max(1), "note": ""}
        yield pd.DataFrame({"path": path, **columns}, index=[number] * len(p))


def main(config):
    with runs.start(config, __package__) as run:
        examples, networks, fits = run.load(load), {}, {}
        run.check(*build(run.config, examples), examples)
        for name, arm in baselines.methods(run.config).items():
            networks[name], fits[name] = fit(arm, examples, name, run.checkpoints(name))
        judge_and_report(run, examples, networks, fits)
        return run.folder


def judge_and_report(run, examples, networks, fits):
    run.save_network(networks["staged"])
    validation = judge(run.config, networks, examples.val, examples.classes)
    chosen_on = {name: (one["label"] == one["prediction"]).mean() for name, one in validation.items()}
    networks = baselines.compared(networks, chosen_on)
    if not run.config.machine.test:
        table = baselines.table(run.config, networks, fits, "accuracy", chosen_on)
        return run.stop_at_validation(examples, fits, table)
    tested = judge(run.config, networks, run.open_test(examples, networks), examples.classes)
    (test, per_class, predictions), metrics = tables(tested["staged"], examples), {}
    for name, table in tested.items():
        metrics[name] = classification.metrics(table, examples.classes)
    found = {"comparison": baselines.table(run.config, networks, fits, "accuracy", chosen_on, metrics)}
    run.save(examples, fits, per_class=per_class, predictions=predictions, **found)
    said = ("rows", "A classifier of rows into", "numbers are scaled", "rows", "logits", "Meant for rows.")
    task = Task(*said, ("accuracy", "accuracy"), {"F1": "f1"}, unit="rows")
    run.card(task, data={run.config.data: examples}, metrics=test)
    run.report("rows", question="Which is which?", data=examples, pictures={}, metrics=test)
    run.end({"classes": list(examples.classes), "test": test, "baselines": metrics})
