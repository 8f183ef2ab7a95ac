"""`python -m runner seeds`: a complete run for each seed, and what they say together."""

import numpy as np
import pandas as pd
import pytest

from runner.errors import InputError
from runner.runs import folder, template
from runner.tuning import seeds

SHORT = ["--stages.0.epochs", "1", "--stages.1.epochs", "1", "--no-baselines"]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.setattr(template, "packages", lambda repository=None: ["tests.rows"])
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "rows-seeds"


def test_each_seed_is_a_complete_run_and_what_is_there_stays(rows, capsys):
    assert seeds.run("rows", 2, "mine", [*SHORT, "--seed", "3"]) == 0
    place = rows / "mine"
    assert {path.name for path in (place / "seed_3").iterdir()} == folder.FILES
    assert folder.read_complete(place / "seed_4")["seed"] == 4
    table = pd.read_csv(place / "seeds.csv")
    assert table["seed"].tolist() == [3, 4] and table["handed_out"].all()
    told = capsys.readouterr().out
    mean = 100 * table["test_accuracy"].mean()
    assert f"{mean:.1f}" in told and "test accuracy over seeds" in told and (place / "compare.html").is_file()
    before = (place / "seed_3" / "metrics.json").stat().st_mtime_ns
    assert seeds.run("rows", 2, "mine", [*SHORT, "--seed", "3"]) == 0
    assert (place / "seed_3" / "metrics.json").stat().st_mtime_ns == before
    assert "seed 3: complete" in capsys.readouterr().out
    with pytest.raises(InputError, match="seed_3 began with batch_size 32 .now 16.*another --name"):
        seeds.run("rows", 2, "mine", [*SHORT, "--seed", "3", "--batch-size", "16"])
    for wrong, name, message in ((1, "", "one seed has no spread"), (2, "a/b", "give a name, and no path")):
        with pytest.raises(InputError, match=message):
            seeds.run("rows", wrong, name, SHORT)


def test_mean_spread_and_differences_of_known_numbers(capsys):
    assert seeds.spread([1.0, 2.0, 3.0]) == pytest.approx(
        (2, 1, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5)
    )
    mean, *others = seeds.spread([0.5])
    assert mean == 0.5 and np.isnan(others).all()
    rows = [
        (seed, name, value, name == "staged")
        for seed, low in enumerate((0.70, 0.74, 0.78))
        for name, value in (("staged", low + 0.1), ("from scratch", low))
    ]
    table = pd.DataFrame(rows, columns=["seed", "method", "test_accuracy", "handed_out"])
    staged, scratch = seeds.summary(table, "test_accuracy").to_dict("records")
    assert staged["mean"] == pytest.approx(0.84) and staged["deviation"] == pytest.approx(0.04)
    assert (staged["lowest"], staged["highest"]) == pytest.approx((0.8, 0.88))
    assert np.isnan(staged["difference"])
    # Seed by seed they are always as far apart, whatever the seeds have in common.
    assert [scratch[name] for name in ("difference", "low", "high")] == pytest.approx([0.1] * 3)
    seeds._print(table, "test_accuracy", True)
    told = capsys.readouterr().out
    assert "-10.0 (-10.0 to -10.0)" in told and "74.0" in told
