"""torchvision's networks in PyTorch's layers, under its names, returning every stage."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnjax.models import CifarResNet, ResNet


def _conv(inputs, maps, window, strides=1):
    return nn.Conv2d(inputs, maps, window, strides, window // 2, bias=False)


class _Block(nn.Module):
    def __init__(self, inputs, maps, strides, bottleneck, projection):
        super().__init__()
        windows = (1, 3, 1) if bottleneck else (3, 3)
        sizes = [inputs, maps, maps, 4 * maps] if bottleneck else [inputs, maps, maps]
        self.count, self.strides = len(windows), strides
        for i, window in enumerate(windows):
            own = strides if i == int(bottleneck) else 1
            setattr(self, f"conv{i + 1}", _conv(sizes[i], sizes[i + 1], window, own))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(sizes[i + 1]))
        self.new = sizes[-1] - inputs
        self.downsample = None
        if projection and (strides > 1 or self.new):
            self.downsample = nn.Sequential(
                _conv(inputs, sizes[-1], 1, strides), nn.BatchNorm2d(sizes[-1])
            )

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.strides > 1:
            half = self.new // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half), "constant", 0)
        return F.relu(x + y)


class _Residual(nn.Module):
    def __init__(self, stem, width, counts, bottleneck, projection, classes, classifier):
        super().__init__()
        self.conv1, self.pool = stem
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(counts):
            blocks = []
            for i in range(count):
                strides = 2 if stage and i == 0 else 1
                maps = width << stage
                blocks.append(_Block(inputs, maps, strides, bottleneck, projection))
                inputs = 4 * maps if bottleneck else maps
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages, self.classifier = len(counts), classifier
        setattr(self, classifier, nn.Linear(inputs, classes))

    def forward(self, x):
        features = {"stem": self.pool(F.relu(self.bn1(self.conv1(x))))}
        x = features["stem"]
        for stage in range(1, self.stages + 1):
            x = features[f"layer{stage}"] = getattr(self, f"layer{stage}")(x)
        features["pooled"] = F.adaptive_avg_pool2d(x, 1).flatten(1)
        features["logits"] = getattr(self, self.classifier)(features["pooled"])
        return features


class _Fire(nn.Module):
    def __init__(self, inputs, squeezed, expanded):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


class _Squeeze(nn.Module):
    def __init__(self, classes):
        super().__init__()
        pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), _Fire(64, 16, 64), _Fire(128, 16, 64),
            pool(), _Fire(128, 32, 128), _Fire(256, 32, 128), pool(), _Fire(256, 48, 192),
            _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(512, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x):
        features = {"stem": self.features[:3](x)}
        fires = (3, 4, 6, 7, 9, 10, 11, 12)
        for fire, place in enumerate(fires, start=2):
            features[f"fire{fire}"] = self.features[: place + 1](x)
        features["logits"] = self.classifier(features["fire9"]).flatten(1)
        return features


def like(model):
    """The PyTorch network of one of ours."""
    if isinstance(model, ResNet):
        counts = (2, 2, 2, 2) if model.depth == 18 else (3, 4, 6, 3)
        stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1)
        return _Residual(stem, 64, counts, model.depth == 50, True, model.classes, "fc")
    if isinstance(model, CifarResNet):
        counts = ((model.depth - 2) // 6,) * 3
        stem = _conv(3, 16, 3), nn.Identity()
        return _Residual(stem, 16, counts, False, False, model.classes, "linear")
    return _Squeeze(model.classes)
