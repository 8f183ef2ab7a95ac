"""Which precision `auto` takes, device by device."""

import keras
import pytest
import tensorflow as tf

from runner.devices import precision
from runner.errors import InputError


@pytest.mark.parametrize(
    ("capability", "policy"),
    [((9, 0), "mixed_bfloat16"), ((8, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")],
)
def test_a_gpu_decides_by_its_capability(capability, policy):
    assert precision.of_gpu(capability)[0] == policy


@pytest.mark.parametrize(
    ("flags", "backbone", "policy"),
    [
        ({"avx2", "amx_bf16"}, "ResNet50", "mixed_bfloat16"),
        ({"avx512_bf16"}, "InceptionResNetV2", "mixed_bfloat16"),
        ({"avx512_bf16"}, "MobileNet-0.25", "float32"),
        ({"amx_bf16"}, "EfficientNetV2B0", "float32"),
        ({"avx2", "avx512f"}, "ResNet50", "float32"),
        (set(), "VGG16", "float32"),
    ],
)
def test_a_processor_decides_by_its_units_and_the_network(flags, backbone, policy):
    found, why = precision.of_cpu(flags, backbone)
    assert found == policy and why


def test_a_wish_is_granted_and_a_wrong_one_answered():
    assert precision.choose("mixed_float16", "VGG16")[0] == "mixed_float16"
    with pytest.raises(InputError, match="auto, float32, mixed_bfloat16"):
        precision.choose("half", "VGG16")
    assert precision.choose("auto", "MobileNet-0.25")[0] in precision.POLICIES


def test_half_precision_of_the_optimizer_scales_its_loss_only_in_float16():
    def compiled(policy):
        precision.set_policy(policy)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile("adam", "mse")
        return model

    assert compiled("mixed_bfloat16").optimizer.name == "adam"
    model = compiled("mixed_float16")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert all(variable.dtype == "float32" for variable in model.weights)
    assert model(tf.zeros((1, 4))).dtype == tf.float16
