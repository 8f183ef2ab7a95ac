"""What is compared is the best of a few recipes, chosen before the test by validation alone."""

from types import SimpleNamespace

import keras
import pandas as pd
import pytest

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.training import baselines
from runner.training.fit import Fit
from templates.image_classification.config import Config
from templates.text_classification.config import Config as TextConfig
from tests.rows import train as rows
from tests.rows.config import Config as Rows


def test_each_length_is_an_arm_of_its_own_and_one_alone_needs_no_name():
    config = fields.replace(Config(), scratch_lengths=(5, 1, 5), scratch_learning_rate=0.01)
    arms = baselines.methods(config)
    lengths = ["from scratch for 70 epochs", "from scratch for 350 epochs"]
    assert list(arms) == [*lengths, "frozen backbone", "staged"] and arms["staged"] is config
    for name, epochs in zip(lengths, (70, 350), strict=True):
        (stage,) = arms[name].stages
        assert (stage.epochs, stage.learning_rate, stage.train) == (epochs, 0.01, "all")
        assert arms[name].weights == "none" and not arms[name].solve_head
        assert baselines.called(name) == "from scratch"
    assert arms["frozen backbone"].stages[0].epochs == 70 and arms["frozen backbone"].solve_head
    alone = baselines.methods(fields.replace(config, scratch_lengths=(2,)))
    assert list(alone) == list(baselines.NAMES) and alone["from scratch"].stages[0].epochs == 140
    assert list(baselines.methods(fields.replace(config, baselines=False))) == ["staged"]
    for wrong in ((), (0,), (1, -1)):
        with pytest.raises(InputError, match="scratch_lengths=.* give one or more whole numbers"):
            fields.replace(config, scratch_lengths=wrong)


def test_of_texts_the_usual_recipe_is_an_arm_where_the_stages_are_another():
    solved = TextConfig(solve_head=True)
    arms = baselines.of_texts(solved)
    once = arms[baselines.AT_ONCE]
    assert list(arms)[0] == baselines.AT_ONCE and arms["staged"] is solved and not once.solve_head
    assert once.stages[0].epochs == solved.stages[0].epochs
    assert {arms[name].backbone for name in arms if name.startswith("from scratch")} == {"BERT-tiny"}
    assert baselines.AT_ONCE not in baselines.of_texts(once)
    assert list(baselines.of_texts(fields.replace(solved, baselines=False))) == ["staged"]


def test_lora_begins_with_the_head_of_the_stages_and_takes_their_epochs():
    config = TextConfig()
    arm = baselines.of_texts(config, lora=True)[baselines.LORA]
    (stage,) = arm.stages
    assert (stage.train, stage.epochs) == ("lora:8", sum(one.epochs for one in config.stages))
    assert arm.solve_head == config.solve_head and arm.weights == config.weights
    assert baselines.LORA not in baselines.of_texts(config)
    assert baselines.LORA not in baselines.of_texts(arm, lora=True)  # the stages are that


def test_the_best_on_validation_is_compared_and_says_so(capsys):
    names = [baselines.PIXELS, "from scratch for 70 epochs", "from scratch for 350 epochs", "staged"]
    row = keras.Input((2,))
    networks = {name: keras.Model(row, keras.layers.Dense(1)(row)) for name in names}
    fits = {
        name: Fit(pd.DataFrame({"epoch": range(n)}), pd.DataFrame(), float(n)) for n, name in enumerate(names)
    }
    validation = dict(zip(names, (0.3, 0.1, 0.25, 0.9), strict=True))
    best = baselines.compared(networks, validation)
    assert list(best) == [baselines.PIXELS, "from scratch", "staged"]
    assert best["from scratch"] is networks["from scratch for 350 epochs"]
    said = "350 epochs, by validation: 0.100 after 70, 0.250 after 350"
    assert capsys.readouterr().out == f"from scratch: {said}\n"

    test = {name: {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "f1": 0.2} for name in best}
    config = SimpleNamespace(weights="letters")
    table = baselines.table(config, best, fits, "accuracy", validation, test, also=("f1",))
    table = table.set_index("method")
    assert table["recipe"].tolist() == ["", said, ""] and table["epochs"].tolist() == [0, 2, 3]
    assert table["val_accuracy"].tolist() == [0.3, 0.25, 0.9] and table.loc["staged", "test_f1"] == 0.2
    assert table["pretrained"].tolist() == [False, False, True]
    config.weights = "none"
    table = baselines.table(config, best, fits, "accuracy", validation)
    assert not table["pretrained"].any() and "test_accuracy" not in table

    # Of equal ones the shorter, and what was tried alone has nothing to tell.
    equal = baselines.compared(networks, validation | {"from scratch for 70 epochs": 0.25})
    assert equal["from scratch"] is networks["from scratch for 70 epochs"]
    one = {"from scratch": networks["staged"], "staged": networks["staged"]}
    capsys.readouterr()
    assert baselines.compared(one, dict.fromkeys(one, 0.5)) == one and capsys.readouterr().out == ""


def test_no_network_that_lost_on_validation_sees_the_test(tmp_path, monkeypatch):
    seen = []

    def judge(config, networks, split, classes, original=rows.judge):
        seen.append(list(networks))
        return original(config, networks, split, classes)

    def fit(config, examples, name, checkpoints):
        epochs = sum(stage.epochs for stage in config.stages)
        history = pd.DataFrame({"epoch": range(epochs), "stage": "head"})
        return rows.build(config, examples)[0], Fit(history, pd.DataFrame(), 1.0)

    monkeypatch.setattr(rows, "judge", judge)
    monkeypatch.setattr(rows, "fit", fit)
    machine = Machine(run_dir=str(tmp_path / "run"))
    run = rows.main(Rows(machine=machine, scratch_lengths=(1, 3)))
    lengths = ["from scratch for 8 epochs", "from scratch for 24 epochs"]
    assert seen == [[*lengths, "frozen backbone", "staged"], list(baselines.NAMES)]
    table = pd.read_csv(run / "comparison.csv").set_index("method")
    said = table.loc["from scratch", "recipe"]
    assert said.startswith(f"{table.loc['from scratch', 'epochs']} epochs, by validation: ")
    for page in ("report.html", "MODEL_CARD.md"):
        assert said in (run / page).read_text()
    assert "epochs" not in (run / "test_readings.csv").read_text()
