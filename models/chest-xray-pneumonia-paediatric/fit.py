"""Trains one network; scores."""

import copy
import math
import time

import numpy as np
import torch
from torch.nn import functional as F

from augment import HARDER, augment
from network import Network
from preprocess import area_average, prepare

BATCH = 64


def at_twice(grey_pictures, side):
    """Area averages at 2 * side, uint8, (n, 1, 2 * side, 2 * side): what augmentation starts from."""
    out = [area_average(g, 2 * side, 2 * side).round().astype(np.uint8) for g in grey_pictures]
    return torch.from_numpy(np.stack(out)[:, None])


def prepared(grey_pictures, side):
    return torch.from_numpy(np.concatenate([prepare(g, side) for g in grey_pictures]))


def harder(grey_pictures, side):
    return {name: prepared([change(g) for g in grey_pictures], side) for name, change in HARDER.items()}


@torch.no_grad()
def logits(network, x):
    network.eval()
    return torch.cat([network(part) for part in x.split(128)]).numpy().astype(np.float64)


def fit(seed, source, exact, y, side, epochs, widths=(16, 32, 64), strength=1.0, rate=3e-3,
        decay=0.03, smoothing=0.05, mix=0.5, log=print):
    """Returns the averaged (EMA) network after `epochs`.

    `source`: training pictures from `at_twice`; `exact`: the same from `prepared`, shown without
    augmentation one time in eight; `y`: labels. Each class weighs the same in the loss.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Network(widths)
    averaged = copy.deepcopy(network).eval()
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}], lr=rate)
    y = torch.as_tensor(y)
    weight = torch.where(y > 0.5, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    steps_per_epoch, step = len(y) // BATCH, 0
    for epoch in range(epochs):
        network.train()
        started, total = time.time(), 0.0
        order = torch.randperm(len(y), generator=generator)
        for part in order[: steps_per_epoch * BATCH].view(steps_per_epoch, BATCH):
            done = step / (steps_per_epoch * epochs)
            lr = rate * min(1.0, step / steps_per_epoch + 0.05) * 0.5 * (1 + math.cos(math.pi * done))
            for group in optimiser.param_groups:
                group["lr"] = lr
            x = augment(source[part].float() / 255.0, side, generator, strength)
            plain = torch.rand(BATCH, generator=generator) < 0.125
            x[plain] = exact[part][plain]
            target = y[part] * (1 - smoothing) + smoothing / 2
            w = weight[part]
            if torch.rand(1, generator=generator).item() < mix:
                lam = 0.5 + 0.5 * torch.rand(1, generator=generator).item()
                other = torch.randperm(BATCH, generator=generator)
                x = lam * x + (1 - lam) * x[other]
                target = lam * target + (1 - lam) * target[other]
                w = lam * w + (1 - lam) * w[other]
            loss = (F.binary_cross_entropy_with_logits(network(x), target, reduction="none") * w).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            total += loss.item()
            step += 1
            keep = min(0.997, (1 + step) / (10 + step))
            with torch.no_grad():
                for a, b in zip(averaged.state_dict().values(), network.state_dict().values()):
                    if a.dtype.is_floating_point:
                        a.mul_(keep).add_(b, alpha=1 - keep)
                    else:
                        a.copy_(b)
        log(f"seed {seed} epoch {epoch + 1}/{epochs} loss {total / steps_per_epoch:.4f} "
            f"{time.time() - started:.1f} s")
    return averaged


def auc(score, y):
    """Area under the ROC curve; ties count one half."""
    order = np.argsort(score, kind="mergesort")
    s, ranks = score[order], np.empty(len(score))
    i = 0
    while i < len(s):
        j = i
        while j < len(s) and s[j] == s[i]:
            j += 1
        ranks[order[i:j]] = (i + j + 1) / 2
        i = j
    positive = y > 0.5
    n1, n0 = positive.sum(), (~positive).sum()
    return (ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)


def specificity_at(score, y, sensitivity=0.95):
    """Specificity at the highest threshold that still reaches `sensitivity`, and that threshold."""
    positive = np.sort(score[y > 0.5])[::-1]
    threshold = positive[int(math.ceil(sensitivity * len(positive))) - 1]
    return float((score[y < 0.5] < threshold).mean()), float(threshold)


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-np.asarray(z, dtype=np.float64)))


def cross_entropy(p, y, weight=None):
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(np.average(-(y * np.log(p) + (1 - y) * np.log(1 - p)), weights=weight))
