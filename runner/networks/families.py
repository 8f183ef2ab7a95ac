"""The one table of all `keras.applications` families; it imports nothing heavy."""

from dataclasses import dataclass

from runner.errors import InputError, suggest


@dataclass(frozen=True)
class Family:
    """What is known of one `keras.applications` constructor.

    `boundaries` is a regular expression for the full names of the layers that close a block; `output` is the
    last layer. `parameters` maps each width that has ImageNet weights to the parameter count without the top.
    """

    name: str
    pixels: str
    """What the network wants: a mode of `imagenet_utils.preprocess_input`, or inside when it rescales."""
    native_size: int
    minimum_size: int
    boundaries: str
    output: str
    parameters: dict[float, int]
    weights_file: str
    """The file of ImageNet weights in the Keras cache; {width} and {size} are filled in."""
    weights_sizes: tuple[int, ...] = ()
    """Image sizes with ImageNet weights of their own; other sizes take those of 224."""
    single_tensor: bool = True
    """Whether the network can be cut at each boundary (NASNet's cells also read the cell before the last)."""

    @property
    def batch_norm(self) -> bool:
        """Whether the network has BatchNorm layers."""
        return not self.name.startswith(("VGG", "ConvNeXt"))

    @property
    def has_width(self) -> bool:
        """Whether the constructor takes a width (`alpha`)."""
        return len(self.parameters) > 1


TF_FILE = "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"
RESNET = r"pool1_pool|conv\d_block\d+_out"
DENSENET = r"pool1|pool\d_pool|relu"
NASNET = r"stem_bn1|(normal|reduction)_concat_(stem_|reduce_)?\d+"
EFFICIENTNET = r"block\da_project_bn|block\d[b-z]_add"
EFFICIENTNET_V2_B = r"block1a_project_activation|block[2-9]a_project_bn|block\d[b-z]_add"
EFFICIENTNET_V2 = r"block1a_add|block[2-9]a_project_bn|block\d[b-z]_add"
CONVNEXT = r"\w+_stage_\d_block_\d+_add"
MOBILENET_V2_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size}_no_top.h5"

# name, pixels, native size, minimum size, boundaries, output, parameters, file of ImageNet weights
FAMILIES = (
    Family(
        "VGG16", "caffe", 224, 32, r"block\d_pool", "block5_pool", {1.0: 14_714_688}, TF_FILE.format("vgg16")
    ),
    Family(
        "VGG19", "caffe", 224, 32, r"block\d_pool", "block5_pool", {1.0: 20_024_384}, TF_FILE.format("vgg19")
    ),
    Family(
        "ResNet50",
        "caffe",
        224,
        32,
        RESNET,
        "conv5_block3_out",
        {1.0: 23_587_712},
        TF_FILE.format("resnet50"),
    ),
    Family(
        "ResNet101",
        "caffe",
        224,
        32,
        RESNET,
        "conv5_block3_out",
        {1.0: 42_658_176},
        TF_FILE.format("resnet101"),
    ),
    Family(
        "ResNet152",
        "caffe",
        224,
        32,
        RESNET,
        "conv5_block3_out",
        {1.0: 58_370_944},
        TF_FILE.format("resnet152"),
    ),
    Family("ResNet50V2", "tf", 224, 32, RESNET, "post_relu", {1.0: 23_564_800}, TF_FILE.format("resnet50v2")),
    Family(
        "ResNet101V2", "tf", 224, 32, RESNET, "post_relu", {1.0: 42_626_560}, TF_FILE.format("resnet101v2")
    ),
    Family(
        "ResNet152V2", "tf", 224, 32, RESNET, "post_relu", {1.0: 58_331_648}, TF_FILE.format("resnet152v2")
    ),
    Family(
        "InceptionV3",
        "tf",
        299,
        75,
        r"mixed\d+",
        "mixed10",
        {1.0: 21_802_784},
        TF_FILE.format("inception_v3"),
    ),
    Family(
        "InceptionResNetV2",
        "tf",
        299,
        75,
        r"mixed_\d[ab]|block\d+_\d+_ac",
        "conv_7b_ac",
        {1.0: 54_336_736},
        TF_FILE.format("inception_resnet_v2"),
    ),
    Family(
        "Xception",
        "tf",
        299,
        71,
        r"block1_conv2_act|block\d+_add|block14_sepconv2_act",
        "block14_sepconv2_act",
        {1.0: 20_861_480},
        TF_FILE.format("xception"),
    ),
    Family(
        "MobileNet",
        "tf",
        224,
        32,
        r"conv1_relu|conv_pw_\d+_relu",
        "conv_pw_13_relu",
        {0.25: 218_544, 0.5: 829_536, 0.75: 1_832_976, 1.0: 3_228_864},
        "mobilenet_{width}_{size}_tf_no_top.h5",
        (128, 160, 192, 224),
    ),
    Family(
        "MobileNetV2",
        "tf",
        224,
        32,
        r"Conv1_relu|expanded_conv_project_BN|block_(1|3|6|10|13|16)_project_BN|block_\d+_add",
        "out_relu",
        {0.35: 410_208, 0.5: 706_224, 0.75: 1_382_064, 1.0: 2_257_984, 1.3: 3_766_048, 1.4: 4_363_712},
        MOBILENET_V2_FILE,
        (96, 128, 160, 192, 224),
    ),
    Family(
        "MobileNetV3Small",
        "inside",
        224,
        32,
        r"expanded_conv(_[1368])?_project_bn|expanded_conv_\d+_add",
        "top_activation",
        {0.75: 583_160, 1.0: 939_120},
        "weights_mobilenet_v3_small_224_{width}_float_no_top_v2.h5",
    ),
    Family(
        "MobileNetV3Large",
        "inside",
        224,
        32,
        r"expanded_conv_(1|3|6|10|12)_project_bn|expanded_conv(_\d+)?_add",
        "top_activation",
        {0.75: 1_808_736, 1.0: 2_996_352},
        "weights_mobilenet_v3_large_224_{width}_float_no_top_v2.h5",
    ),
    Family(
        "DenseNet121", "torch", 224, 32, DENSENET, "relu", {1.0: 7_037_504}, TF_FILE.format("densenet121")
    ),
    Family(
        "DenseNet169", "torch", 224, 32, DENSENET, "relu", {1.0: 12_642_880}, TF_FILE.format("densenet169")
    ),
    Family(
        "DenseNet201", "torch", 224, 32, DENSENET, "relu", {1.0: 18_321_984}, TF_FILE.format("densenet201")
    ),
    Family(
        "NASNetMobile",
        "tf",
        224,
        32,
        NASNET,
        "top_activation",
        {1.0: 4_269_716},
        "nasnet_mobile_no_top.h5",
        single_tensor=False,
    ),
    Family(
        "NASNetLarge",
        "tf",
        331,
        32,
        NASNET,
        "top_activation",
        {1.0: 84_916_818},
        "nasnet_large_no_top.h5",
        single_tensor=False,
    ),
    *(
        Family(
            f"EfficientNetB{number}",
            "inside",
            size,
            32,
            EFFICIENTNET,
            "top_activation",
            {1.0: parameters},
            f"efficientnetb{number}_notop.h5",
        )
        for number, size, parameters in (
            (0, 224, 4_049_571),
            (1, 240, 6_575_239),
            (2, 260, 7_768_569),
            (3, 300, 10_783_535),
            (4, 380, 17_673_823),
            (5, 456, 28_513_527),
            (6, 528, 40_960_143),
            (7, 600, 64_097_687),
        )
    ),
    *(
        Family(
            f"EfficientNetV2B{number}",
            "inside",
            size,
            32,
            EFFICIENTNET_V2_B,
            "top_activation",
            {1.0: parameters},
            f"efficientnetv2-b{number}_notop.h5",
        )
        for number, size, parameters in (
            (0, 224, 5_919_312),
            (1, 240, 6_931_124),
            (2, 260, 8_769_374),
            (3, 300, 12_930_622),
        )
    ),
    *(
        Family(
            f"EfficientNetV2{letter}",
            "inside",
            size,
            32,
            EFFICIENTNET_V2,
            "top_activation",
            {1.0: parameters},
            f"efficientnetv2-{letter.lower()}_notop.h5",
        )
        for letter, size, parameters in (
            ("S", 384, 20_331_360),
            ("M", 480, 53_150_388),
            ("L", 480, 117_746_848),
        )
    ),
    *(
        Family(
            f"ConvNeXt{size}",
            "inside",
            224,
            32,
            CONVNEXT,
            "top_layer_normalization",
            {1.0: parameters},
            f"convnext_{size.lower()}_notop.h5",
        )
        for size, parameters in (
            ("Tiny", 27_820_128),
            ("Small", 49_454_688),
            ("Base", 87_566_464),
            ("Large", 196_230_336),
            ("XLarge", 348_147_968),
        )
    ),
)
BACKBONES: dict[str, Family] = {family.name: family for family in FAMILIES}
SMALL = Family("SmallConv", "tf", 64, 16, r"block\d_relu", "block4_relu", {1.0: 98_160}, "")
"""The one that is no keras.applications network, see `small`; one's own runs alone have weights for it."""
KNOWN = BACKBONES | {SMALL.name: SMALL}


def table() -> list[dict[str, object]]:
    """Return the table for people: one dict per family, without building a model or importing Keras."""
    return [
        {
            "backbone": family.name,
            "parameters": family.parameters[1.0],
            "native size": family.native_size,
            "minimum size": family.minimum_size,
            "pixels": family.pixels,
            "widths": " ".join(f"{width:g}" for width in family.parameters) if family.has_width else "",
        }
        for family in KNOWN.values()
    ]


def find(name: str) -> tuple[Family, float]:
    """Return the family and the width that a name like "resnet50" or "MobileNetV2-0.35" means; any case.

    Raises InputError for an unknown family, a width where the family has none, or one outside 0.1 to 2.
    """
    base, _, suffix = str(name).strip().partition("-")
    family = {key.lower(): value for key, value in KNOWN.items()}.get(base.lower())
    if family is None:
        raise InputError(
            f"Unknown backbone '{name}'.{suggest(base, KNOWN)} Allowed are the keras.applications names, "
            f"with a width for the MobileNets (MobileNet-0.25), and SmallConv: {', '.join(KNOWN)}."
        )
    if not suffix and "-" not in str(name):
        return family, 1.0
    if not family.has_width:
        raise InputError(f"Backbone '{name}': {family.name} has no widths; write '{family.name}'.")
    try:
        width = float(suffix)
    except ValueError:
        width = float("nan")
    if not 0.1 <= width <= 2:
        raise InputError(
            f"Backbone '{name}': the width '{suffix}' is not a number from 0.1 to 2; those with "
            f"ImageNet weights are {names_with_weights(family)}."
        )
    return family, width


def canonical(name: str) -> str:
    """Return the one spelling of a backbone's name: "mobilenet-0.250" gives "MobileNet-0.25"."""
    return canonical_name(*find(name))


def canonical_name(family: Family, width: float) -> str:
    """Return the name of a family at a width; width 1 goes without saying."""
    return family.name if width == 1.0 else f"{family.name}-{width:g}"


def names_with_weights(family: Family) -> str:
    """Return the names that have ImageNet weights, for a message."""
    return ", ".join(canonical_name(family, width) for width in family.parameters)


def weights_file(family: Family, width: float, image_size: int) -> str:
    """Return the name of the file in the Keras cache with the ImageNet weights of a width and image size."""
    size = image_size if image_size in family.weights_sizes else 224
    text = str(float(width))
    if family.name == "MobileNet":  # 2_5 means 0.25, and 1_0 means 1.0
        text = "1_0" if width == 1 else f"{10 * width:.1f}".replace(".", "_")
    return family.weights_file.format(width=text, size=size)
