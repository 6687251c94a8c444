"""Networks.  Each returns ``(logits, features)``; ``features`` maps names to activations.

Pictures, probes and transfer read ``features`` and need no hooks; what nobody reads costs
nothing under ``jit``.
"""

from cnnjax.models.fully_connected import FullyConnected
from cnnjax.models.interface import Dropout, Features
from cnnjax.models.lenet import LeNet1, LeNet4, LeNet5, ModernLeNet
from cnnjax.models.resnet import CifarResNet, ResNet
from cnnjax.models.sentence import SentenceCNN
from cnnjax.models.squeezenet import SqueezeNet
from cnnjax.models.strategies import Net1, Net2, Net3, Net4, Net5
from cnnjax.models.summary import LayerSummary, summarize, totals
from cnnjax.models.zipcode import ZipCodeNet

__all__ = [
    "CifarResNet", "Dropout", "Features", "FullyConnected", "LayerSummary", "LeNet1", "LeNet4",
    "LeNet5", "ModernLeNet", "Net1", "Net2", "Net3", "Net4", "Net5", "ResNet", "SentenceCNN",
    "SqueezeNet", "ZipCodeNet", "summarize", "totals",
]  # fmt: skip
