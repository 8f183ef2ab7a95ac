"""Which weights train: `trainable` flags from one word, and the ledger that proves what a stage moved.

The flags are set per variable, because a stage may train a part of a layer only: `norm` trains the scales
and offsets of a BatchNorm layer whose statistics stay still, `bias` trains a convolution's bias without its
kernel. A BatchNorm layer of the backbone keeps `layer.trainable = False` unless it is asked to train: that
alone holds its statistics still inside `fit` in every Keras 3 release (calling the backbone with
`training=False` does not: keras #20285).

A stage decides over the blocks alone. Outside them what was frozen before stays so: a second backbone, a
teacher. So does, everywhere, the kernel below a LoRA.
"""

from collections import defaultdict
from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd

from runner.errors import InputError, suggest
from runner.networks import lora
from runner.networks.backbones import Block
from runner.stage import Stage

NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)


def owners(model: keras.Model, blocks: Sequence[Block]) -> dict[int, str]:
    """Map the id of each layer of the model that belongs to a block, parts of layers included, to its name.

    A layer is the very object that the block was made with (`backbones.blocks`), where the model has it; of a
    model that was copied or loaded, and for blocks of names alone, it is the one of that name. A name may
    stand for a layer made of layers, such as one of a transformer. Raises InputError for a block of names
    none of which the model has, and for a name that several layers bear. Of a backbone's own blocks the upper
    ones may be missing, where the model was built on a lower one.
    """
    layers = model._flatten_layers(include_self=False)
    present = {id(layer) for layer in layers}
    as_objects = any(id(layer) in present for block in blocks for layer in block.objects)
    named = defaultdict(list)
    for layer in layers:
        named[layer.name].append(layer)
    wanted = {name for block in blocks for name in block.layers if name in named}
    homes = [one for one in (model, *layers) if wanted <= {part.name for part in one._layers}]
    home = {id(part) for part in homes[0]._layers} if model in homes or len(homes) == 1 else set()

    def find(block: Block, place: int) -> keras.layers.Layer | None:
        if block.objects and as_objects:
            return block.objects[place] if id(block.objects[place]) in present else None
        found = named.get(block.layers[place], [])
        if len(found) > 1:
            found = [layer for layer in found if id(layer) in home]
            if len(found) != 1:
                raise InputError(
                    f"block '{block.name}': {len(named[block.layers[place]])} layers of the model "
                    f"'{model.name}' are called '{block.layers[place]}'; pass the blocks that "
                    "backbones.blocks gives of the very backbone that the model was built on."
                )
        return found[0] if found else None

    owner, empty = {}, []
    for block in blocks:
        own = [layer for place in range(len(block.layers)) if (layer := find(block, place)) is not None]
        if not own:
            empty.append(block)
        for layer in own:
            for part in layer._flatten_layers():
                owner.setdefault(id(part), block.name)
    none = bool(empty) and len(empty) == len(blocks)
    empty = [block.name for block in empty if none or not block.objects]
    if empty:
        which = (
            f"of the blocks {blocks[0].name} to {blocks[-1].name}"
            if none
            else f"of the block{'s' * (len(empty) > 1)} {', '.join(empty)}"
        )
        raise InputError(
            f"the model '{model.name}' has none of the layers {which}; pass the blocks of the backbone this "
            "model was built on."
        )
    return owner


def layers_by_block(model: keras.Model, blocks: Sequence[Block]) -> dict[str, list[keras.layers.Layer]]:
    """Map each block's name, bottom first, and last "head", to the layers of the model that belong to it.

    Everything that no block claims is the head: what was added on top of the backbone. Works for flat
    models and for models that hold their backbone as one nested layer. Raises InputError as `owners`.
    """
    owner = owners(model, blocks)
    found = {block.name: [] for block in blocks} | {"head": []}
    for layer in model._flatten_layers(include_self=False):
        # Only layers that hold variables of their own matter; a nested model or wrapper is covered by its
        # parts.
        if layer._trainable_variables or layer._non_trainable_variables:
            found[owner.get(id(layer), "head")].append(layer)
    return found


def select(
    model: keras.Model, blocks: Sequence[Block], train: str, batch_norm: str = "frozen"
) -> list[keras.Variable]:
    """The variables that train under a policy value, in the order of `model.weights`; sets no flag.

    `train` is "head", "top:N", "above:NAME", "all", "norm", "bias" or "lora:RANK" (after `attach_lora`);
    `batch_norm="train"` lets the BatchNorm layers of the blocks that train learn as well. Of what belongs to
    no block those that are not frozen now train always. Raises InputError for a block that does not exist,
    naming those that do, and where nothing would train.
    """
    chosen = set()
    for name, layers in layers_by_block(model, blocks).items():
        for layer in layers:
            chosen.update(id(variable) for variable in _chosen_of(layer, name, blocks, train, batch_norm))
    found = [variable for variable in model.weights if id(variable) in chosen]
    if not found:
        raise InputError(
            f"train='{train}' would train nothing: the model '{model.name}' has no weight outside the blocks "
            "that is not frozen; set `trainable = True` on the layers that are to learn, before fit."
        )
    return found


def _chosen_of(layer, block: str, blocks, train: str, batch_norm: str) -> list[keras.Variable]:
    learnable = layer._trainable_variables
    if block == "head":
        return [variable for variable in learnable if variable.trainable] if layer.trainable else []
    if train.startswith("lora:"):
        return lora.weights(layer)
    if getattr(layer, "lora_enabled", False):  # what it adds to stays as it is: that is the point of it
        below = [getattr(layer, name, None) for name in ("_kernel", "_embeddings")]
        learnable = [variable for variable in learnable if not any(variable is one for one in below)]
    if train == "norm":
        return learnable if isinstance(layer, NORMALISATIONS) else []
    if (
        train == "bias"
    ):  # BitFit (Ben Zaken et al. 2022, arXiv:2106.10199); a norm's offset is the bias of what it follows
        return [variable for variable in learnable if variable.name in ("bias", "beta")]
    if block not in trained_blocks(blocks, train):
        return []
    if isinstance(layer, keras.layers.BatchNormalization) and batch_norm == "frozen":
        return []
    return learnable


def attach_lora(
    model: keras.Model, blocks: Sequence[Block], stages: Sequence[Stage]
) -> list[keras.layers.Layer]:
    """Put LoRA on the blocks where a stage trains it; returns the layers that got it, for `merge_lora`.

    The network computes the same as before. Raises InputError as `owners` and `lora.attach`.
    """
    ranks = [stage.lora_rank for stage in stages if stage.lora_rank]
    if not ranks:
        return []
    owner, parts = owners(model, blocks), model._flatten_layers(include_self=False)
    of_blocks = [[part for part in parts if owner.get(id(part)) == block.name] for block in blocks]
    with model.distribute_strategy.scope():
        return lora.attach(of_blocks, ranks[0])


def merge_lora(model: keras.Model, layers: Sequence[keras.layers.Layer]) -> None:
    """Add what `attach_lora` put there to the kernels; the network has the layers of before then."""
    if not layers:
        return
    with model.distribute_strategy.scope():
        lora.merge(layers)
    # Made with the LoRA in them; Keras makes them again when they are needed.
    model.train_function = model.test_function = model.predict_function = None


def trained_blocks(blocks: Sequence[Block], train: str) -> list[str]:
    """Names of the backbone blocks that a policy value trains as a whole, bottom first."""
    names = [block.name for block in blocks]
    if train == "all":
        return names
    if train.startswith("top:"):
        count = int(train.removeprefix("top:"))
        if count > len(names):
            raise InputError(
                f"train='{train}': this backbone has {len(names)} blocks; give top:1 to top:{len(names)}, "
                f"or all. Blocks, top first: {', '.join(reversed(names))}."
            )
        return names[-count:]
    if train.startswith("above:"):
        boundary = train.removeprefix("above:")
        if boundary not in names:
            raise InputError(
                f"train='{train}': no block is called '{boundary}'; the blocks, bottom first, are "
                f"{', '.join(names)}.{suggest(boundary, names)}"
            )
        return names[names.index(boundary) + 1 :]
    return []  # head; norm and bias choose variables, not blocks


def set_trainable(
    model: keras.Model, blocks: Sequence[Block], train: str, batch_norm: str = "frozen"
) -> list[keras.Variable]:
    """Set every layer's and variable's `trainable` flag for a policy value; returns the variables that train.

    Like any change of the flags it reaches a compiled model only with the next `compile` or
    `make_train_function(force=True)`; `stages.StagedUnfreezing` sees to that.
    """
    chosen = select(model, blocks, train, batch_norm)
    ids = {id(variable) for variable in chosen}
    owner = owners(model, blocks)
    for layer in model._flatten_layers():
        # What holds layers of a block must not hide their variables. Not by its setter, which would set the
        # flags of all that it holds, also of what the user froze.
        if layer is model or any(id(part) in owner for part in layer._flatten_layers(include_self=False)):
            layer._trainable = True
    for name, layers in layers_by_block(model, blocks).items():
        for layer in layers:
            if name != "head":
                statistics_move = batch_norm == "train" and (
                    train == "norm" or name in trained_blocks(blocks, train)
                )
                frozen = not any(id(variable) in ids for variable in layer._trainable_variables)
                still = isinstance(layer, keras.layers.BatchNormalization) and not statistics_move
                layer.trainable = not (frozen or still)
            # Setting the layer's flag set all its variables'; the stage may want only some of them.
            for variable in layer._trainable_variables:
                variable.trainable = id(variable) in ids
    return chosen


def plan(model: keras.Model, blocks: Sequence[Block], stages: Sequence[Stage]) -> pd.DataFrame:
    """What each stage would train, before anything does: columns stage, trains, blocks, variables, weights,
    epochs.

    `blocks` counts the backbone blocks of which some weight trains, `weights` single numbers. Raises
    InputError for a block that does not exist.
    """
    rows, added = [], attach_lora(model, blocks, stages)
    for stage in stages:
        chosen = select(model, blocks, stage.train, stage.batch_norm)
        ids = {id(variable) for variable in chosen}
        touched = [
            name
            for name, layers in layers_by_block(model, blocks).items()
            if name != "head"
            and any(id(variable) in ids for layer in layers for variable in layer._trainable_variables)
        ]
        rows.append(
            {
                "stage": stage.name,
                "trains": stage.train,
                "blocks": len(touched),
                "variables": len(chosen),
                "weights": sum(int(np.prod(variable.shape)) for variable in chosen),
                "epochs": stage.epochs,
            }
        )
    merge_lora(model, added)
    return pd.DataFrame(rows)
