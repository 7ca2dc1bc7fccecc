"""The networks: a small residual CNN for pneumonia, and how batch norm is folded for export."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.skip = None
        if before != after or stride != 1:
            self.skip = nn.Conv2d(before, after, 1, stride, bias=False)
            self.skip_norm = nn.BatchNorm2d(after)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + (x if self.skip is None else self.skip_norm(self.skip(x))))


class Network(nn.Module):
    """(n, 1, side, side) standardised pictures -> (n,) logits."""

    def __init__(self, widths=(16, 32, 64), dropout: float = 0.3):
        super().__init__()
        first = widths[0]
        self.stem = nn.Conv2d(1, first, 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(first)
        blocks = [Block(first, first, 1)]
        for before, after in zip(widths, widths[1:]):
            blocks.append(Block(before, after, 2))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], 1)

    def features(self, x):
        x = F.relu(self.stem_norm(self.stem(x)))
        return self.blocks(x).mean(dim=(2, 3))

    def forward(self, x):
        return self.head(self.dropout(self.features(x)))[:, 0]


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution with bias that equals `norm(conv(x))` in evaluation mode."""
    return torch.nn.utils.fusion.fuse_conv_bn_eval(conv.eval(), norm.eval())


def fold_all(network: Network) -> Network:
    """Folds every batch norm of `network`, in place; the result is for evaluation only."""
    network.eval()
    network.stem, network.stem_norm = fold(network.stem, network.stem_norm), nn.Identity()
    for block in network.blocks:
        block.conv1, block.norm1 = fold(block.conv1, block.norm1), nn.Identity()
        block.conv2, block.norm2 = fold(block.conv2, block.norm2), nn.Identity()
        if block.skip is not None:
            block.skip, block.skip_norm = fold(block.skip, block.skip_norm), nn.Identity()
    return network
