"""This template on a few dozen made rows: it learns, moves what it says it moves, chooses by no effect, and
leaves a complete run folder whose network takes the columns of a table.
"""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest

from runner import fields
from runner.errors import InputError
from runner.machine import Machine
from runner.networks import saved
from runner.runs import evaluate, folder
from runner.stage import Stage
from runner.tables import columns as columns_of
from runner.tables import layers

from . import answers, learners, loading, method, model, simulate, train
from .config import Config


def made(rows: int, moved: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """A trial whose effect is x + moved, with words and missing values."""
    random = np.random.default_rng(seed)
    x, other = random.normal(size=(2, rows))
    treatment = np.arange(rows) % 2
    mu0, mu1 = other, other + x + moved
    outcome = np.where(treatment, mu1, mu0) + 0.1 * random.normal(size=rows)
    table = pd.DataFrame({"x": x.round(6), "other": other.round(6), "site": np.where(x > 0, "a", "b")})
    table.loc[::11, "other"] = np.nan
    return table.assign(treatment=treatment, outcome=outcome, mu0=mu0, mu1=mu1)


def written(place):
    made(200, seed=1).to_csv(place / "large.csv", index=False)
    made(80, moved=1.0).to_csv(place / "small.csv", index=False)
    return place


@pytest.fixture
def tables(tmp_path):
    return written(tmp_path)


def small_config(place, **changes) -> Config:
    config = Config(
        data=str(place / "small.csv"),
        source=str(place / "large.csv"),
        representation=(8, 8),
        heads=(4,),
        source_stages=(Stage("source", train="all", epochs=20, learning_rate=0.02, schedule="cosine"),),
        stages=(
            Stage("heads", train="head", epochs=2, learning_rate=0.01),
            Stage("top", train="top:1", epochs=2, learning_rate=0.01),
        ),
        weight_decay=0.0,
        scratch_lengths=(1,),
        simulations=0,
        baselines=False,
        machine=Machine(run_dir=str(place / "run")),
    )
    return fields.replace(config, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run, the tables that it is of, and its config."""
    place = written(tmp_path_factory.mktemp("effects"))
    config = small_config(place)
    return train.main(config), place, config


def check(run, more=frozenset()):
    """What every run leaves."""
    assert {path.name for path in run.iterdir()} == folder.FILES | {"policies.csv", "balance.csv"} | more
    assert "could not be" not in (run / "report.html").read_text()
    page, card = (run / "report.html").read_text(), (run / "MODEL_CARD.md").read_text()
    assert "Not for clinical use" in page and "Not for clinical use" in card
    # The check where the truth is known stands before the first effect.
    assert page.index("Before any effect: simulated truths") < page.index("Estimated effects")
    metrics, tested = json.loads((run / "metrics.json").read_text()), pd.read_csv(run / "predictions.csv")
    there = tested["note"].isna()
    error = (tested["true_effect"] - tested["effect"])[there]
    if there.all():
        assert metrics["test"]["root_pehe"] == pytest.approx(np.sqrt((error**2).mean()))
    assert metrics["test"]["effect_r2"] == pytest.approx(tested["effect_r2"].mean())
    assert pd.read_csv(run / "policies.csv")["policy"].tolist() == ["nobody", "everybody", "who gains"]
    return metrics, tested


def test_a_run_leaves_everything_it_promises(finished):
    run, place, _ = finished
    _, tested = check(run)
    # The saved network takes columns, and says what was written; a row without overlap has no effect.
    network, data = saved.load(run), pd.read_csv(place / "small.csv", dtype=str, keep_default_na=False)
    columns = layers.columns_in(network)
    assert [one.name for one in columns] == ["x", "other", "site"]
    rows = data.iloc[tested["id"]].reset_index(drop=True)
    given = np.asarray(network(layers.as_inputs(columns_of.blank(rows), columns)))
    there = tested["note"].isna()
    assert there.any()
    np.testing.assert_allclose(given[there, 2], tested["effect"][there], atol=1e-4)
    answered = pd.concat(train.predict(run, [str(place / "small.csv")], batch_size=7))
    assert len(answered) == 80 and answered.index.tolist() == list(range(80))
    assert (answered["low"] < answered["effect"]).sum() == answered["note"].eq("").sum()
    judged = evaluate.run(train, Config, run, str(place / "small.csv"), place / "judged")
    assert judged.metrics["examples"] == 80 and judged.score == "effect_r2"


def test_evaluate_withholds_what_predict_withholds(finished, tmp_path):
    run, place, _ = finished
    people = pd.read_csv(place / "small.csv")
    chances = pd.concat(train.predict(run, [str(place / "small.csv")]))["propensity"]
    # The run as it were with overlap for no more than the middle half of these people.
    there, told = shutil.copytree(run, tmp_path / "run"), json.loads((run / "metrics.json").read_text())
    told["overlap"]["share"] = float(0.5 - (chances - 0.5).abs().median())
    (there / "metrics.json").write_text(json.dumps(told))
    found = evaluate.run(train, Config, there, str(place / "small.csv"), tmp_path / "judged")
    judged = pd.read_csv(tmp_path / "judged" / "predictions.csv", keep_default_na=False, na_values=[""])
    handed = pd.concat(train.predict(there, [str(place / "small.csv")])).iloc[judged["id"]]
    left = judged["note"].notna().to_numpy()
    assert 20 < left.sum() < 60 and (left == handed["note"].ne("").to_numpy()).all()
    for name in ("effect", "low", "high", "untreated", "treated"):
        np.testing.assert_allclose(judged[name], handed[name], atol=1e-5)
        assert (judged[name].isna() == left).all()
    # It is said where a person looks, and the same people count as in the run's own test: all.
    said = f"Of {left.sum()} of the 80 examples the answer is withheld: no overlap"
    assert said in (tmp_path / "judged" / "report.html").read_text()
    assert any(said in line for line in found.remarks)
    before = evaluate.run(train, Config, run, str(place / "small.csv"), tmp_path / "before").metrics
    assert found.metrics["examples"] == len(people) and found.metrics == before


def test_stages_move_what_they_say_and_begin_with_the_source(finished):
    run, _, config = finished
    if json.loads((run / "metrics.json").read_text())["method"] == "staged":
        ledger = pd.read_csv(run / "ledger.csv").set_index(["stage", "block"])["moved"]
        assert ledger["heads", "representation_1"] == ledger["heads", "representation_2"] == 0
        assert ledger["top", "representation_1"] == 0 < ledger["top", "representation_2"]
    trial = train.load(config)
    start = learners.start_of(fields.replace(config, weights=str(run), source=""), trial, None)
    network, _ = model.build(config, trial)
    model.carried(network, start.network)
    again = learners.Learned(network, start.outcome)
    if "residual" not in [layer.name for layer in start.network.layers]:
        np.testing.assert_array_equal(again.z(trial.rows), start.z(trial.rows))
    # The effects move by one: a constant, which ridge on the frozen representation learns of 45 rows.
    truth = trial.truth + [0.0, 1.0]
    moved = loading.with_outcomes(trial, trial.outcome + (trial.treatment == 1), truth, None)
    solved, _ = learners.solve(config, moved, start)
    ids = moved.of("test")
    errors = [np.diff(one.expected(trial.rows[ids]) - truth[ids])[:, 0] for one in (start, solved)]
    assert np.abs(errors[1]).mean() < 0.7 * np.abs(errors[0]).mean()


@pytest.mark.slow
def test_a_whole_run_compares_everything(tables):
    run = train.main(small_config(tables, baselines=True, simulations=1))
    metrics, _ = check(run, {"simulations.csv"})
    everyone = {learners.RIDGE_S, learners.RIDGE_T, learners.BOOSTING, "as it came", "from scratch"}
    assert everyone <= set(metrics["baselines"]) | {metrics["method"]}
    assert set(pd.read_csv(run / "simulations.csv")["method"]) >= everyone
    ledger = pd.read_csv(run / "ledger.csv") if metrics["method"] == "staged" else None
    assert ledger is None or ledger.query("stage == 'heads'")["moved"].iloc[0] == 0


def test_columns_that_the_source_never_saw_weigh_nothing_at_first(tables):
    data = pd.read_csv(tables / "small.csv")
    data.insert(1, "new", np.arange(80) / 80)
    data.to_csv(tables / "small.csv", index=False)
    config = small_config(tables)
    trial = train.load(config)
    assert [one.name for one in trial.columns] == ["x", "other", "site", "new"]
    assert np.isnan(trial.source.rows[:, 3]).all()
    source, _ = model.build(config, dataclasses.replace(trial.source, columns=trial.columns[:3]))
    network, _ = model.build(config, trial)
    model.carried(network, source)
    np.testing.assert_allclose(network(trial.rows), source(trial.rows[:, :3]), atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    ["S-learner", *(pytest.param(one, marks=pytest.mark.slow) for one in ("DragonNet", "T-learner"))],
)
def test_every_network_is_saved_and_says_the_same(tables, kind, tmp_path):
    config = small_config(tables, backbone=kind)
    trial = train.load(config)
    network, blocks = model.build(config, trial)
    assert [block.name for block in blocks] == ["representation_1", "representation_2"]
    learned = learners.Learned(network, method.Outcome(False, 1.0, 2.0))
    rows = trial.rows[:9]
    np.testing.assert_allclose(learned.expected(rows), 1 + 2 * np.asarray(network(rows))[:, :2], atol=1e-6)
    overlap = answers.overlap(trial)
    whole = answers.finish(config, trial, learned, 2.0, overlap)
    layers.of_columns(whole, trial.columns).save(tmp_path / "one.keras")
    again = layers.of_rows(keras.models.load_model(tmp_path / "one.keras", compile=False))
    given = np.asarray(again(rows))
    np.testing.assert_allclose(given, whole(rows), atol=1e-6)
    np.testing.assert_allclose(given[:, :2], learned.expected(rows), atol=1e-5)
    np.testing.assert_allclose(given[:, 3], 2 * learners.uncertain(config, trial, learned, rows), rtol=1e-3)
    np.testing.assert_allclose(given[:, 4].clip(0.02, 0.98), overlap.propensity.of(rows), atol=1e-5)


def test_losses_are_those_of_the_papers():
    outcome = method.Outcome(False, 1.0, 2.0)
    labels = np.float32([[0, 3], [1, 3]])
    z = np.float32([[0.5, 9, 0.0, 0.1], [9, 0.5, 0.0, 0.1]])
    plain = np.asarray(method.Factual(outcome, reduction=None)(labels, z))
    np.testing.assert_allclose(plain, [0.25, 0.25])  # ((3 - 1) / 2 - 0.5)^2
    same = method.DragonNet(outcome, alpha=0.0, beta=0.0, reduction=None)(labels, z)
    np.testing.assert_array_equal(same, plain)
    with_propensity = method.DragonNet(outcome, alpha=2.0, beta=0.0, reduction=None)(labels, z)
    np.testing.assert_allclose(with_propensity, plain + 2 * np.log(2), rtol=1e-6)  # of a fair coin
    # h is -2 for a control and 2 for a treated row of a fair coin.
    targeted = method.DragonNet(outcome, alpha=0.0, beta=3.0, reduction=None)(labels, z)
    np.testing.assert_allclose(targeted, plain + 3 * np.array([0.7, 0.3]) ** 2, rtol=1e-5)
    binary = method.Factual(method.Outcome(True), reduction=None)(np.float32([[1, 1]]), np.float32([[9, 0]]))
    np.testing.assert_allclose(binary, [np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("binary", [False, True])
def test_ridge_finds_what_is_there_and_stays_where_nothing_is(binary):
    random = np.random.default_rng(0)
    columns, treatment = random.normal(size=(4000, 3)), np.arange(4000) % 2
    z = columns[:, 0] + (treatment - 0.5) * (1 + 2 * columns[:, 1])
    outcome = method.Outcome(binary, 0.0, 1.0)
    y = (random.random(4000) < outcome.expected(z)) * 1.0 if binary else z + 0.3 * random.normal(size=4000)
    solved = method.ridge(columns, treatment, y, outcome)
    wide = 0.35 if binary else 0.05
    np.testing.assert_allclose(solved.effect, [1, 0, 2, 0], atol=wide)
    np.testing.assert_allclose(solved.main, [0, 1, 0, 0], atol=wide)
    # What was known before leaves nothing to find.
    truth = np.column_stack([columns[:, 0] - 0.5 - columns[:, 1], columns[:, 0] + 0.5 + columns[:, 1]])
    nothing = method.ridge(columns, treatment, y, outcome, truth)
    assert np.abs(nothing.z(columns)).max() < 0.5 * wide + 0.05
    # The posterior holds the truth about as often as it says.
    error = columns[:, 1] * 2 + 1 - np.diff(solved.z(columns))[:, 0]
    deviation = np.linalg.norm(np.column_stack([np.ones(4000), columns]) @ solved.root, axis=1)
    assert np.abs(error / deviation).mean() < 3


def test_no_truth_is_needed_and_none_chooses(tables):
    with_truth = train.load(small_config(tables))
    for name in ("small", "large"):
        path = tables / f"{name}.csv"
        pd.read_csv(path).drop(columns=["mu0", "mu1"]).to_csv(path, index=False)
    without = train.load(small_config(tables))
    assert without.truth is None and [one.name for one in without.columns] == ["x", "other", "site"]
    np.testing.assert_array_equal(without.rows, with_truth.rows)
    validation = {"staged": np.ones(9), "frozen + solved": np.linspace(0.9, 1.1, 9)}
    assert learners.chosen(validation) == "frozen + solved"  # as good, and moves less
    assert learners.chosen(validation | {"staged": np.full(9, 0.5)}) == "staged"


def test_effects_without_overlap_are_withheld_and_that_is_said_first(tables):
    data = made(400)
    data["treatment"] = ((data["x"] > 1) | ((data["x"] > -1) & (np.arange(400) % 2 == 0))).astype(int)
    data.to_csv(tables / "small.csv", index=False)
    trial = train.load(small_config(tables))
    overlap = answers.overlap(trial)
    assert 0.02 < overlap.share < 0.3 and 0 < overlap.without < 0.8
    assert overlap.notes[0].startswith("Overlap is missing for")
    config = small_config(tables)
    learned = learners.Learned(model.build(config, trial)[0], method.Outcome(False, 0.0, 1.0))
    whole = answers.finish(config, trial, learned, 2.0, overlap)
    told = answers.given(whole, trial.rows, overlap.share)
    left = told["note"] != ""
    assert left.any() and told.loc[left, ["effect", "low", "high", "treated"]].isna().all(axis=None)
    assert told.loc[~left, "effect"].notna().all() and told["propensity"].notna().all()


@pytest.mark.parametrize("binary", [False, True])
def test_simulated_truths_are_on_the_same_people(tables, binary):
    config = small_config(tables)
    trial = train.load(config)
    if binary:
        outcome = (trial.outcome > np.median(trial.outcome)) * 1.0
        source = loading.with_outcomes(
            trial.source, (trial.source.outcome > 0) * 1.0, trial.source.truth, None
        )
        trial = loading.with_outcomes(trial, outcome, trial.truth, source)
    one = simulate.simulated(trial, "bent", 1)
    np.testing.assert_array_equal(one.rows, trial.rows)
    np.testing.assert_array_equal(one.treatment, trial.treatment)
    given = one.truth[np.arange(80), one.treatment]
    if binary:
        assert set(one.outcome) == {0, 1} and 0 < one.truth.min() < one.truth.max() < 1
    else:
        noise = (one.outcome - given).var() / one.outcome.var()
        assert 0.2 < noise < 0.8
    assert one.source is not None and not np.array_equal(one.source.outcome, trial.source.outcome)
    error, width = np.linspace(-2, 2, 401), np.ones(401)
    tried = [simulate.Tried("bent", {"staged": error}, error + 1, {"staged": width})]
    assert simulate.factor(tried, "staged") == pytest.approx(1.9, abs=0.02)  # of |u|, u within -2..2
    assert simulate.factor([], "staged") == pytest.approx(1.96, abs=0.01)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda one: one.assign(treatment=1), "with the treatment 1 alone; both arms must be there"),
        (lambda one: one.assign(treatment=2), "with the treatment '2'; 0 .* and 1 .* are allowed"),
        (lambda one: one.assign(outcome=3.5), "whose outcome is 3.5 in every row"),
        (lambda one: one.assign(outcome="well"), "with the outcome 'well'; a number is allowed"),
        (lambda one: one.drop(columns="outcome"), "outcome='outcome', and .* has no such column"),
        (lambda one: one.drop(columns="treatment"), "treatment='treatment', and .* has no such column"),
        (lambda one: one.drop(columns="mu1"), "with 'mu0' alone; give both of mu0 and mu1, or none"),
        (lambda one: one.head(6), "at least"),
        (lambda one: one[["treatment", "outcome"]], "without a column of input"),
    ],
)
def test_bad_tables_are_answered_in_one_line(tables, change, told):
    change(pd.read_csv(tables / "small.csv")).to_csv(tables / "small.csv", index=False)
    with pytest.raises(InputError, match=told) as error:
        train.main(small_config(tables))
    assert "\n" not in str(error.value) and not (tables / "run").exists()


def test_settings_that_cannot_be_are_answered_before_anything(tables):
    for changes, told in (
        ({"source": ""}, "source=''"),
        ({"outcome": "treatment"}, "outcome='treatment'"),
        ({"representation": ()}, "representation="),
        ({"monitor": "root_pehe"}, "monitor="),  # no effect may choose
    ):
        with pytest.raises(InputError, match=told):
            small_config(tables, **changes)
