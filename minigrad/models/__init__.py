"""Networks, built by name: ``models.build("resnet20")``."""

from minigrad.models.registry import build, find, model, names
from minigrad.models.resnet import ResNet
from minigrad.models.resnet_cifar import CifarResNet, PreActCifarResNet
