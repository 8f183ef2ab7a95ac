"""The small network of this house is built, cut and taken as weights like any of keras.applications."""

import numpy as np
import pytest

from runner.errors import InputError
from runner.networks import backbones, families


def test_it_has_the_size_that_is_said_and_a_block_per_convolution():
    network = backbones.build("smallconv", 64, "none")
    assert network.name == "SmallConv" and network.output.shape == (None, 4, 4, 128)
    assert network.count_params() == families.SMALL.parameters[1.0] == 98_160
    blocks = backbones.blocks(network)
    assert [one.name for one in blocks] == [f"block{number}_relu" for number in range(1, 5)]
    # h w 9 c_in c_out of each convolution.
    sides, filters = (64, 32, 16, 8), (3, 16, 32, 64, 128)
    products = sum(s * s * 9 * filters[n] * filters[n + 1] for n, s in enumerate(sides))
    assert round(products / 1e6) == 16
    assert "SmallConv" in {row["backbone"] for row in families.table()}


def test_its_weights_come_from_a_saved_network_and_from_nowhere_else(tmp_path):
    network = backbones.build("SmallConv", 32, "none")
    network.save(tmp_path / "model.keras")
    again = backbones.build("SmallConv", 48, str(tmp_path))
    for ours, theirs in zip(again.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    assert np.isfinite(np.asarray(network(pixels))).all()
    with pytest.raises(InputError, match="no ImageNet weights for SmallConv; give weights='none'"):
        backbones.build("SmallConv", 64, "imagenet")
    with pytest.raises(InputError, match="SmallConv has no widths"):
        backbones.build("SmallConv-0.5", 64, "none")
