"""Any `keras.applications` backbone as one flat graph (`build`), and its named `blocks`.

What `build` gives is a flat functional graph: raw pixels in, preprocessing inside, the last feature map
out, and no model nested in it, so that it can be cut at any block boundary. Every layer has a name that does
not depend on what else was built in the process. Keras is imported only when a model is built: the table
(`BACKBONES`) costs nothing.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner import quiet
from runner.errors import InputError
from runner.networks import pixels, pretrained, small
from runner.networks.families import BACKBONES, SMALL, Family, canonical, find, table

if TYPE_CHECKING:
    import keras

__all__ = ["BACKBONES", "Block", "Family", "blocks", "build", "canonical", "find", "table"]


@dataclass(frozen=True)
class Block:
    """A named group of neighbouring layers, called after the last of them."""

    name: str
    layers: tuple[str, ...]
    """Their names, bottom first."""
    objects: tuple = field(default=(), repr=False, compare=False)
    """The layers themselves, in the same order, where they are known: another network that is a part of the
    same model may have layers of the same names.
    """


def build(name: str, image_size: int, weights: str = "imagenet", channels: int = 3) -> "keras.Model":
    """Build a backbone as one flat functional graph, with preprocessing inside.

    Args:
        name: a `keras.applications` name in any case, with a width for the MobileNets ("MobileNetV2-0.35"),
            or "SmallConv".
        image_size: height and width of the images in pixels, at least the family's minimum.
        weights: "imagenet", "none", the name of a folder in checkpoints/, or the path of a `.weights.h5`,
            `.h5` or `.keras` file, or of a run folder (which has `model.keras`). A classifier's head is
            left out.
        channels: 3 for RGB; 1 for grayscale, which is repeated three times inside the graph.

    Returns:
        A `keras.Model` called after the backbone: pixels of 0..255, uint8 or floats, (batch, image_size,
        image_size, channels), input name "image", to the last feature map (batch, h, w, c) in the compute
        dtype of the Keras dtype policy. Preprocessing is float32 under every policy. Floats that were scaled
        to 0..1 or -1..1 are refused: see `pixels`.

    Raises:
        InputError: for a name, width, size or number of channels that is not allowed, and for weights that
            are not there or don't fit.
    """
    import keras

    quiet.settle_keras()
    family, width = find(name)
    full_name = canonical(name)
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < family.minimum_size:
        raise InputError(
            f"image_size={image_size!r} is too small or not a whole number: {family.name} takes "
            f"{family.minimum_size} pixels or more (native {family.native_size})."
        )
    if channels not in (1, 3):
        raise InputError(f"channels={channels!r} is not allowed: give 3 for RGB or 1 for grayscale.")
    source = pretrained.resolve(weights, family, width)

    constructor: Callable = small.build if family is SMALL else getattr(keras.applications, family.name)
    arguments: dict[str, object] = {"alpha": width} if family.has_width else {}
    arguments["input_shape"] = (image_size, image_size, 3)
    # The skeleton has no values: its variables would be thrown away with it.
    with keras.StatelessScope(initialize_variables=False):
        image = keras.Input((image_size, image_size, channels), dtype="float32", name="image")
        x = keras.ops.cast(image, "float32")
        if channels == 1:
            x = keras.ops.repeat(x, 3, axis=-1)
        if family.pixels != "inside":
            x = keras.applications.imagenet_utils.preprocess_input(x, mode=family.pixels)
        skeleton = constructor(include_top=False, weights=None, input_tensor=x, **arguments)
    backbone = _flat_copy(skeleton, family, full_name)
    pixels.guard(backbone)

    def plain(weights):
        return constructor(include_top=False, weights=weights, **arguments)

    pretrained.load(backbone, source, plain, pretrained.imagenet_path(family, width, image_size))
    return backbone


def blocks(backbone: "keras.Model", name: str | None = None) -> tuple[Block, ...]:
    """Return the blocks of a backbone, bottom first; every layer of it is in exactly one.

    A layer belongs to the first boundary that depends on it; what is above the last boundary joins the last
    block. What the backbone's last layer does not depend on is a head and is left out, so a whole classifier
    may be given, also one that was saved and loaded again.

    Args:
        backbone: a model from `build`, or one built on top of it.
        name: the backbone's name, where `backbone.name` is not it.

    Raises:
        InputError: when the name is unknown or the model does not hold that backbone.
    """
    import keras

    family, _ = find(backbone.name if name is None else name)
    operations = {operation.name: operation for operation in backbone.operations}
    parents = parents_of(operations.values())
    below = _owners([family.output], parents) if family.output in operations else {}
    boundaries = [layer for layer in operations if layer in below and re.fullmatch(family.boundaries, layer)]
    if not boundaries:
        raise InputError(
            f"The model '{backbone.name}' does not hold the layers of {family.name} (up to "
            f"'{family.output}'): give the name of the backbone it was built on, and a model made with "
            "runner.networks.backbones.build."
        )
    owners = _owners([*boundaries, family.output], parents)
    members = defaultdict(list)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Layer) and layer.name in owners:
            members[owners[layer.name]].append(layer)
    if family.output not in boundaries:
        members[family.output] = members.pop(boundaries[-1]) + members[family.output]
        boundaries[-1] = family.output
    return tuple(
        Block(boundary, tuple(layer.name for layer in members[boundary]), tuple(members[boundary]))
        for boundary in boundaries
    )


def parents_of(operations: "Iterable[keras.Operation]") -> dict[str, list[str]]:
    """Map each operation's name to the names of those whose outputs it reads.

    `input` and `output` of a Keras operation are those of its first call, so cuts that share layers with the
    model do not count.
    """
    import keras

    operations = list(operations)
    producers = {
        id(t): operation.name for operation in operations for t in keras.tree.flatten(operation.output)
    }
    return {
        operation.name: [
            producers[id(t)]
            for t in keras.tree.flatten(operation.input)
            if producers.get(id(t), operation.name) != operation.name  # an input layer reads itself
        ]
        for operation in operations
    }


def _owners(boundaries: list[str], parents: dict[str, list[str]]) -> dict[str, str]:
    """Map operations to the first boundary (in graph order) that depends on them; others are left out."""
    owners: dict[str, str] = {}
    for boundary in boundaries:
        waiting = [boundary]
        while waiting:
            name = waiting.pop()
            if name not in owners:
                owners[name] = boundary
                waiting += parents[name]
    return owners


def _stable_names(skeleton, family: Family) -> dict[str, str]:
    """Map each operation's name to one that is the same in every build.

    Names that Keras numbered ("conv2d_94") count what was built before in the process. They become the
    block's name, the kind and a number within the block: "mixed7_conv2d_3"; "image_..." before the first
    weight, "top_..." above the last boundary. An unnamed sum takes the name of the residual block it closes:
    "block5_add".
    """
    kinds = {operation.name: type(operation).__name__ for operation in skeleton.operations}
    unnamed = {
        name for name, kind in kinds.items() if re.sub(r"_\d+$", "", name).replace("_", "") == kind.lower()
    }
    parents = parents_of(skeleton.operations)
    names = {name: name for name in kinds}
    for name in unnamed:
        closes = [re.match(r"(\w*block_?\d+)_", parent) for parent in parents[name] if parent not in unnamed]
        if kinds[name] == "Add" and any(closes):
            names[name] = f"{next(filter(None, closes))[1]}_add"
    owners = _owners([name for name in kinds if re.fullmatch(family.boundaries, names[name])], parents)

    before_weights = set()
    count = Counter()
    for operation in skeleton.operations:
        name = operation.name
        weighted = bool(getattr(operation, "weights", ())) and kinds[name] != "Normalization"
        if not weighted and before_weights.issuperset(parents[name]):
            before_weights.add(name)
        if name in unnamed and names[name] == name:
            place = "image" if name in before_weights else names[owners[name]] if name in owners else "top"
            stable = f"{place}_{re.sub(r'_[0-9]+$', '', name)}"
            count[stable] += 1
            names[name] = stable if count[stable] == 1 else f"{stable}_{count[stable]}"
    return names


def _flat_copy(skeleton, family: Family, name: str):
    """Copy the graph: stable names, ConvNeXt's parts and sums as plain layers, float32 preprocessing."""
    import keras

    names = _stable_names(skeleton, family)

    def copy(operation):
        if isinstance(operation, keras.Sequential):
            return [type(layer).from_config(layer.get_config()) for layer in operation.layers]
        stable = names[operation.name]
        if not isinstance(operation, keras.layers.Layer) and re.fullmatch(family.boundaries, stable):
            return keras.layers.Add(name=stable)  # ConvNeXt's sums are bare `+`, which are no layers
        config = {**operation.get_config(), "name": stable}
        if isinstance(operation, (keras.layers.Rescaling, keras.layers.Normalization)):
            config["dtype"] = "float32"
        return type(operation).from_config(config)

    def call(operation, *inputs, **arguments):
        if isinstance(operation, list):
            for layer in operation:
                inputs = (layer(*inputs),)
            return inputs[0]
        if isinstance(operation, keras.layers.Add) and len(inputs) > 1:
            return operation(list(inputs))
        return operation(*inputs, **arguments)

    flat = keras.models.clone_model(skeleton, clone_function=copy, call_function=call)
    (image,) = keras.tree.flatten(flat.input)  # one tensor, where some constructors make a list of one
    return keras.Model(image, flat.output, name=name)
