"""One graph from several networks: model.onnx."""

import torch
from torch import nn

from network import fold, fold_all


class Combined(nn.Module):
    """Picture (1, 1, side, side) -> pneumonia (1, 1), members (1, k), frontal (1, 1), distance (1, 1).

    pneumonia = sigmoid(slope * mean of the members' logits + offset). `members` are the same for each
    network alone: their spread shows how far the seeds disagree.
    """

    def __init__(self, networks, slope, offset, frontal, distance):
        super().__init__()
        self.networks = nn.ModuleList(fold_all(n) for n in networks)
        self.mean = nn.Linear(len(networks), 1)
        nn.init.constant_(self.mean.weight, 1.0 / len(networks))
        nn.init.constant_(self.mean.bias, offset)
        for network in self.networks:  # the slope goes into the heads
            network.head.weight.data.mul_(slope)
            network.head.bias.data.mul_(slope)
        self.register_buffer("offset", torch.full((1, 1), offset))
        frontal.eval()
        for conv, norm in (("conv1", "norm1"), ("conv2", "norm2"), ("conv3", "norm3")):
            setattr(frontal, conv, fold(getattr(frontal, conv), getattr(frontal, norm)))
            setattr(frontal, norm, nn.Identity())
        self.frontal, self.distance = frontal, distance
        self.eval()

    def forward(self, x):
        each = torch.cat([n.head(n.features(x)) for n in self.networks], dim=1)
        f = self.frontal
        y = torch.relu(f.conv3(torch.relu(f.conv2(torch.relu(f.conv1(x))))))
        z = self.distance.white(self.distance.coarse(x))
        return (
            torch.sigmoid(self.mean(each)),
            torch.sigmoid(each + self.offset),
            torch.sigmoid(f.head(y).mean(dim=(2, 3))),
            (z * z).mean(dim=1, keepdim=True).mean(dim=(2, 3)),
        )


OUTPUTS = ["pneumonia", "members", "frontal", "distance"]


def export(combined, side, path):
    torch.onnx.export(combined, torch.zeros(1, 1, side, side), str(path), opset_version=13,
                      input_names=["picture"], output_names=OUTPUTS, do_constant_folding=True)
