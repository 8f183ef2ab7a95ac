"""Many GPUs on paper: hand-made sums, and the real networks' weights; and that layouts train alike."""

import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from benchmarks import scaling
from runner.errors import InputError

REPOSITORY = Path(__file__).parents[1]


def test_a_ring_sends_each_byte_almost_twice():
    assert scaling.ring(100e6, 1, 25e9, 1e-6) == 0
    assert scaling.ring(100e6, 2, 25e9, 0) == pytest.approx(0.004)  # all of it once: half there, half back
    assert scaling.ring(100e6, 4, 25e9, 0) == pytest.approx(0.006)
    assert scaling.ring(0, 512, 25e9, 5e-6) == pytest.approx(1022 * 5e-6)


def test_what_is_hidden_costs_only_what_is_longer_than_the_backward_pass():
    # A step of 90 ms: 30 forward, 60 backward. Two GPUs send B bytes in B / bandwidth seconds.
    short, long = scaling.Load(30e6, 1.0), scaling.Load(90e6, 1.0)
    assert scaling.efficiency(short, 0.09, 2, 1e9, 0) == pytest.approx((0.09 / 0.12, 1))
    assert scaling.efficiency(long, 0.09, 2, 1e9, 0) == pytest.approx((0.09 / 0.18, 0.09 / 0.12))
    # The head alone: 30 ms forward, no backward pass to hide behind.
    assert scaling.efficiency(scaling.Load(30e6, 0.0), 0.09, 2, 1e9, 0) == pytest.approx((0.5, 0.5))
    # Two BatchNorm layers: 10 sums, 2 messages each.
    learns = scaling.Load(0, 1.0, channels=(8, 8))
    assert scaling.efficiency(learns, 0.09, 2, 1e30, 0.0005) == pytest.approx((0.09 / 0.1, 0.09 / 0.1), 1e-2)


def test_a_stage_sends_the_weights_that_train():
    model, blocks = scaling.network("MobileNet-0.25", 224, "none")
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    head, top, frozen, full = scaling.loads("MobileNet-0.25", 224).values()
    assert head.gradient_bytes == 4 * (256 * 10 + 10)
    assert full.gradient_bytes == 4 * (218544 - 5472 + 2570)  # 5472 of the backbone's are statistics
    assert full.gradient_bytes - frozen.gradient_bytes == 4 * sum(2 * layer.gamma.shape[0] for layer in norms)
    assert head.gradient_bytes < top.gradient_bytes < frozen.gradient_bytes
    assert head.backward < 0.001 < top.backward < frozen.backward == full.backward == 1
    assert head.channels == top.channels == frozen.channels == () and len(full.channels) == len(norms) == 27
    # 41 million in the paper (Howard et al. 2017, arXiv:1704.04861, table 6), with a head of 1000 classes.
    work = sum(scaling.multiplications(layer) for layer in model.layers)
    assert (work + 256 * 990) / 1e6 == pytest.approx(41, abs=0.6)


def test_rows_in_reverse_order_change_no_more_than_rounding():
    def trained(*words: str) -> dict:
        small = ["--image-size", "32", "--batch-size", "8", "--epochs", "2", "--weights", "letters_in_photos"]
        return scaling.train(scaling.parser().parse_args([*small, *words]), tf.distribute.get_strategy())

    alone, turned = trained(), trained("--reverse-rows")
    assert alone["step"] > 0 and alone["batch_size"] == 8
    assert 0 < scaling.apart(turned, alone) < alone["moved"] / 100


def test_paper_with_given_numbers(capfd):
    given = ["--step-seconds", "0.05", "--gradient-megabytes", "94", "--gpus", "8"]
    scaling.main(["--only", "paper", *given, "--link-gigabytes-per-second", "25"])
    # 2 * 7/8 * 94e6 / 25e9 + 14 * 5e-6 = 6.65 ms, less than two thirds of 50 ms.
    assert "| as given | 94.00 MB | 25 GB/s | 88.3 % to 100.0 % |\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layouts", "2"], "--layouts 2: give WORKERSxREPLICAS"),
        (["--layouts", "0x1"], "--layouts 0x1: give WORKERSxREPLICAS"),
        (["--epochs", "1"], "--epochs 1 cannot be used; give at least 2"),
        (["--link-gigabytes-per-second", "25", "0"], "second 0.0 cannot be used; give more than 0"),
        (["--paper-backbone", "VGG16"], "VGG16 at 224 px on paper: give --step-seconds too"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(words, message):
    with pytest.raises(InputError, match=message):
        scaling.main(words)


@pytest.mark.slow
def test_the_command_finds_equal_weights_in_every_layout():
    command = [sys.executable, "-m", "benchmarks.scaling", "--rounds", "1", "--epochs", "2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    measured = {row[0]: float(row[6]) for row in rows if row[0] in ("1x1", "1x2", "2x1")}
    assert len(measured) == 3 and max(measured.values()) < 1e-5
    paper = [row[0] for row in rows if row[2].endswith("GB/s")]
    assert paper == [stage for stage in scaling.STAGES for _ in range(2)]
