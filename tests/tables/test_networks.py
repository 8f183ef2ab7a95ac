"""The networks: their blocks, and what each stage trains of them."""

import keras
import numpy as np
import pytest

from runner.errors import InputError
from runner.moving import trainable
from runner.tables import networks
from runner.tables.backbones import BACKBONES
from runner.tables.columns import Column

COLUMNS = (Column("a", "number"), Column("b", "category", ("x", "y")))


def built(name, **options):
    made = networks.build(name, COLUMNS, width=8, depth=2, **options)
    head = keras.layers.Dense(2, name="head")(made.features)
    return keras.Model(made.rows, head), made


@pytest.mark.parametrize("name", BACKBONES)
def test_every_weight_has_a_block(name):
    network, made = built(name)
    layers = trainable.layers_by_block(network, made.blocks)
    assert [one.name for one in layers["head"]] == ["head"]
    assert [len(trainable.select(network, made.blocks, train)) for train in ("head", "top:1", "all")][0] == 2
    assert len(trainable.select(network, made.blocks, "all")) == len(network.trainable_variables)
    assert network(np.zeros((3, 2), "float32")).shape == (3, 2)


def test_names_and_widths_that_there_are_not():
    with pytest.raises(InputError, match="Did you mean 'ft-transformer'"):
        networks.build("ft_transformer", COLUMNS)
    with pytest.raises(InputError, match="a multiple of 4"):
        networks.build("ft-transformer", COLUMNS, width=10)


def test_a_missing_category_and_a_missing_number_change_their_token_alone():
    made = networks.build("ft-transformer", COLUMNS, width=8, depth=1)
    tokens = keras.Model(made.rows, keras.Model(made.rows, made.features).get_layer("tokens").output)
    whole, gone = np.asarray(tokens(np.float32([[1, 2], [np.nan, 2]])))
    np.testing.assert_array_equal(whole[[0, 2]], gone[[0, 2]])
    assert np.abs(whole[1] - gone[1]).max() > 0.01
