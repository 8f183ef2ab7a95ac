"""Rates that suit the weights."""

import dataclasses
import json

import pytest

from runner.errors import InputError
from runner.moving import rates
from runner.networks import pretrained
from runner.stage import Stage
from runner.training.stages import StagedUnfreezing
from templates.domain_adaptation import config as adaptation
from templates.image_classification.config import Config


def rates_of(**changes) -> list[float]:
    return [stage.rate for stage in rates.suited(Config(**changes)).stages]


def test_a_checkpoint_says_its_own_and_imagenet_bears_less():
    assert rates_of() == [1e-2, 3e-3, 3e-3]
    assert rates_of(weights="imagenet") == [2e-3, 3e-4, 3e-4]
    assert rates_of(weights="none") == [1e-2, 3e-3, 3e-3]
    assert rates_of(backbone="VGG16", weights="imagenet") == [2e-3, 3e-5, 3e-5]


def test_what_lora_adds_is_as_new_as_a_head():
    stage = Stage("lora", train="lora:4", learning_rate=None, backbone_rate=None)
    (filled,) = rates.suited(Config(weights="imagenet", stages=(stage,))).stages
    assert (filled.rate, filled.share) == (2e-3, 1.0)


def test_a_backbone_learns_as_slowly_as_its_weights_need_whatever_the_rate_of_the_head():
    def share(**changes):
        (stage,) = rates.suited(adaptation.Config(**changes)).stages
        return stage.rate, stage.share

    assert share() == share(weights="none") == (3e-3, 1.0)
    assert share(weights="imagenet", backbone="MobileNetV2") == (3e-3, 0.1)
    assert share(weights="imagenet", backbone="VGG16", methods=("source only",)) == (3e-3, 0.01)


def test_what_is_given_stays_and_the_rest_is_filled_in():
    given = (Stage("head", learning_rate=0.5), Stage("all", train="all", learning_rate=None))
    assert rates_of(weights="imagenet", stages=given) == [0.5, 3e-4]
    config = rates.suited(Config())
    assert rates.suited(config) is config


def test_other_checkpoints_without_rates_are_as_imagenet(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "CHECKPOINTS", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.json").write_text(json.dumps({"backbone": "MobileNet-0.25"}))
    assert rates_of(weights="mine") == [2e-3, 3e-4, 3e-4]


def test_a_rate_that_nobody_filled_in_is_asked_for(small_model):
    stage = dataclasses.replace(Stage("head"), learning_rate=None)
    with pytest.raises(InputError, match="stage 'head': learning_rate=None leaves the rate to the weights"):
        StagedUnfreezing([stage], small_model()[1])
    with pytest.raises(InputError, match="stage 'all': backbone_rate=None leaves the rate to the weights"):
        StagedUnfreezing([Stage("all", train="all", backbone_rate=None)], small_model()[1])
