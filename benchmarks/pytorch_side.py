"""The PyTorch side of `benchmarks.pytorch`: a ResNet-50, and the loop that a PyTorch user writes for it.

    python -m benchmarks.pytorch_side JOB.npz --epochs 5 3 0 --rates 1e-3 1e-5 1e-5 --batch-size 32

The loop follows the idea of PyTorch's transfer-learning tutorial: `requires_grad` says what trains, `eval()`
holds BatchNorm still, every epoch runs the whole network. In one thing it goes further: the network lies in
memory as `channels_last`, which PyTorch's tuning guide recommends and which is faster on a processor. Imports
neither TensorFlow nor Keras; the pictures and weights come in one file, so that both sides train the same
network on the same pictures.
"""

import argparse
import json
import resource
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BLOCKS = (3, 4, 6, 3)
MEAN_BGR = (103.939, 116.779, 123.68)


def convolution(channels: int, filters: int, size: int, stride: int = 1) -> list[nn.Module]:
    """A convolution without bias, padded so that only the stride changes the size, and its BatchNorm."""
    return [
        nn.Conv2d(channels, filters, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(filters, eps=1.001e-5),
    ]


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut. The stride is in the first, as in He et al. 2015
    (arXiv:1512.03385) and in Keras; torchvision has it in the second ("v1.5"), which is more work.
    """

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        projects = stride > 1 or channels != 4 * width
        self.shortcut = nn.Sequential(*convolution(channels, 4 * width, 1, stride) if projects else [])
        self.path = nn.Sequential(
            *convolution(channels, width, 1, stride),
            nn.ReLU(),
            *convolution(width, width, 3),
            nn.ReLU(),
            *convolution(width, 4 * width, 1),
        )

    def forward(self, x):
        return torch.relu(self.path(x) + self.shortcut(x))


class ResNet50(nn.Module):
    """uint8 RGB pictures (batch, 3, height, width) in, logits (batch, classes) out.

    Its stages have Keras' names. Keras' network has a bias in each convolution as well (26,560 in all), which
    the BatchNorm behind it makes superfluous; without head it has 23,587,712 weights, this 23,561,152.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1), persistent=False)
        self.conv1 = nn.Sequential(*convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        channels = 64
        for stage, blocks in enumerate(BLOCKS, start=2):
            width = 16 * 2**stage
            strides = [1 if stage == 2 else 2] + [1] * (blocks - 1)
            parts = []
            for stride in strides:
                parts.append(Bottleneck(channels, width, stride))
                channels = 4 * width
            setattr(self, f"conv{stage}", nn.Sequential(*parts))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, classes)
        )

    def forward(self, pictures):
        x = pictures.flip(1).float() - self.mean
        return self.head(self.conv5(self.conv4(self.conv3(self.conv2(self.conv1(x))))))


@torch.no_grad()
def load_keras(network: ResNet50, arrays) -> None:
    """Copy the weights of Keras' ResNet50, named "layer/variable", into a network that is to run in eval
    mode: there a convolution's bias moves into the running mean.
    """

    def copy(name: str, layer: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        conv, batch_norm = f"{name}_conv", f"{name}_bn"
        layer.weight.copy_(torch.from_numpy(arrays[f"{conv}/kernel"]).permute(3, 2, 0, 1))
        norm.weight.copy_(torch.from_numpy(arrays[f"{batch_norm}/gamma"]))
        norm.bias.copy_(torch.from_numpy(arrays[f"{batch_norm}/beta"]))
        mean = arrays[f"{batch_norm}/moving_mean"] - arrays[f"{conv}/bias"]
        norm.running_mean.copy_(torch.from_numpy(mean))
        norm.running_var.copy_(torch.from_numpy(arrays[f"{batch_norm}/moving_variance"]))

    copy("conv1", network.conv1[0], network.conv1[1])
    for stage in range(2, 2 + len(BLOCKS)):
        for number, block in enumerate(getattr(network, f"conv{stage}"), start=1):
            name = f"conv{stage}_block{number}"
            for part in range(3):
                copy(f"{name}_{part + 1}", block.path[3 * part], block.path[3 * part + 1])
            if len(block.shortcut):
                copy(f"{name}_0", block.shortcut[0], block.shortcut[1])


def train(network: ResNet50, arrays, epochs, rates, batch_size: int, bfloat16: bool) -> dict:
    """Train the head, then the head and conv5, then everything; BatchNorm stays still throughout.

    arrays: "train_pictures" and "val_pictures" uint8 (n, 3, height, width), "..._labels" int64 (n,).
    Returns what `keras_guide.compare` reads, but for the memory.
    """

    def loader(split: str, shuffle: bool) -> DataLoader:
        pictures = torch.from_numpy(arrays[f"{split}_pictures"])
        labels = torch.from_numpy(arrays[f"{split}_labels"])
        return DataLoader(TensorDataset(pictures, labels), batch_size=batch_size, shuffle=shuffle)

    training, validation = loader("train", True), loader("val", False)
    loss_function = nn.CrossEntropyLoss()
    of_norm = {id(one) for m in network.modules() if isinstance(m, nn.BatchNorm2d) for one in m.parameters()}
    seconds, curve = [], []
    for count, rate, above in zip(epochs, rates, ("head", ("conv5", "head"), ""), strict=True):
        if not count:
            continue
        started = time.perf_counter()
        for name, parameter in network.named_parameters():
            parameter.requires_grad = name.startswith(above) and id(parameter) not in of_norm
        optimizer = torch.optim.Adam([one for one in network.parameters() if one.requires_grad], lr=rate)
        for _ in range(count):
            network.eval()  # BatchNorm uses its running statistics and leaves them as they are
            network.head.train()  # dropout
            for pictures, labels in training:
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    loss = loss_function(network(pictures), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            right = 0
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                for pictures, labels in validation:
                    right += int((network(pictures).argmax(1) == labels).sum())
            curve.append([sum(seconds) + time.perf_counter() - started, right / len(arrays["val_labels"])])
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", help="a .npz file that benchmarks.pytorch wrote")
    parser.add_argument("--epochs", type=int, nargs=3, required=True)
    parser.add_argument("--rates", type=float, nargs=3, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    arrays = dict(np.load(arguments.job))
    network = ResNet50(int(arrays["classes"]))
    load_keras(network, arrays)
    network = network.to(memory_format=torch.channels_last)
    found = train(
        network, arrays, arguments.epochs, arguments.rates, arguments.batch_size, arguments.bfloat16
    )
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS and KiB on Linux
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    print(json.dumps(found | {"gigabytes": gigabytes}))


if __name__ == "__main__":
    main()
