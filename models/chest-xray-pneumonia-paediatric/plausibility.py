"""Is this picture a frontal chest X-ray at all? Two cheap scores on the prepared picture.

`frontal`: probability of a small network that was trained against other pictures.
`distance`: mean squared whitened deviation of the 16 x 16 area averages from those of frontal chest
X-rays (Mahalanobis distance with shrinkage, 256 values). It knows no other pictures at all.
A picture is accepted when frontal >= frontal_min and distance <= distance_max.
"""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from augment import erase, geometry, sharpness, standardise, tone
from preprocess import area_average, prepare

COARSE = 16
SHRINKAGE = 0.02
ACCEPTED_FRONTAL = 0.995  # share of the validation pictures that each rule lets pass
ACCEPTED_DISTANCE = 0.995
DISTANCE_MARGIN = 1.25  # for devices and borders that the public pictures do not show


class Frontal(nn.Module):
    """(n, 1, 32, 32) -> (n,) logits, positive for frontal chest."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.norm2 = nn.Conv2d(12, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24)
        self.conv3, self.norm3 = nn.Conv2d(24, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)
        self.head = nn.Conv2d(32, 1, 4)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.relu(self.norm3(self.conv3(x)))
        return self.head(self.dropout(x)).mean(dim=(2, 3))[:, 0]


class Distance(nn.Module):
    """(n, 1, 32, 32) -> (n,) mean squared whitened deviation."""

    def __init__(self, side, mean, whitening):
        super().__init__()
        step = side // COARSE
        self.coarse = nn.Conv2d(1, 1, step, step, bias=False)
        nn.init.constant_(self.coarse.weight, 1.0 / step**2)
        self.white = nn.Conv2d(1, COARSE * COARSE, COARSE)
        with torch.no_grad():
            self.white.weight.copy_(torch.from_numpy(whitening).view(-1, 1, COARSE, COARSE))
            self.white.bias.copy_(torch.from_numpy(-whitening @ mean))
        for p in self.parameters():
            p.requires_grad_(False)

    def forward(self, x):
        z = self.white(self.coarse(x))
        return (z * z).mean(dim=(1, 2, 3))


def fit_distance(x):
    """`x`: (n, 1, side, side) prepared pictures of frontal chests."""
    side = x.shape[-1]
    v = F.avg_pool2d(x, side // COARSE).flatten(1).numpy().astype(np.float64)
    mean = v.mean(axis=0)
    covariance = np.cov(v - mean, rowvar=False)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / len(mean) * np.eye(len(mean))
    values, vectors = np.linalg.eigh(covariance)
    return Distance(side, mean.astype(np.float64), (vectors / np.sqrt(values)).T)


# Pictures that are no frontal chest X-ray. `changed` are made from frontal chests, 8-bit grey.

def _piece(grey, rng):
    h, w = grey.shape
    share = rng.uniform(0.25, 0.45)
    y, x = int(rng.uniform(0, 1 - share) * h), int(rng.uniform(0, 1 - share) * w)
    return grey[y : y + int(share * h), x : x + int(share * w)]


def _shuffled(grey, rng):
    h, w = (s // 2 for s in grey.shape)
    blocks = [grey[:h, :w], grey[:h, w : 2 * w], grey[h : 2 * h, :w], grey[h : 2 * h, w : 2 * w]]
    order = [(1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)][rng.randint(5)]
    a, b, c, d = (blocks[i] for i in order)
    return np.block([[a, b], [c, d]])


CHANGED = {
    "turned by 90 degrees": lambda g, rng: np.rot90(g),
    "turned by 180 degrees": lambda g, rng: np.rot90(g, 2),
    "turned by 270 degrees": lambda g, rng: np.rot90(g, 3),
    "upside down (mirrored)": lambda g, rng: g[::-1],
    "inverted": lambda g, rng: 255 - g,
    "small piece of a chest": _piece,
    "quarters exchanged": _shuffled,
    "two side by side": lambda g, rng: np.concatenate([g, g[:, ::-1]], axis=1),
}


def _noise(rng):
    return rng.randint(0, 256, (64, 64)).astype(np.uint8)


def _clouds(rng):
    n = rng.randint(2, 17)
    coarse = torch.from_numpy(rng.rand(1, 1, n, n))
    fine = F.interpolate(coarse, size=(64, 64), mode="bicubic", align_corners=True)[0, 0].numpy()
    return np.clip(fine * 255, 0, 255).astype(np.uint8)


def _shapes(rng):
    y, x = np.mgrid[0:64, 0:64] / 64.0
    out = np.full((64, 64), rng.uniform(0, 0.4) if rng.rand() < 0.7 else rng.rand())
    for _ in range(rng.randint(1, 6)):
        cy, cx, ry, rx = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.5)
        out[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = rng.rand()
    return (out * 255).astype(np.uint8)


def _lines(rng):
    out = np.full((64, 64), rng.choice([0, 255]), dtype=np.uint8)
    for y in range(rng.randint(2, 8), 62, rng.randint(3, 9)):
        length = rng.randint(8, 60)
        out[y : y + 2, 2 : 2 + length] = np.where(rng.rand(length) < 0.7, 255 - out[0, 0], out[0, 0])
    return out


DRAWN = {"white noise": _noise, "smooth clouds": _clouds, "discs": _shapes, "lines like text": _lines,
         "one grey level": lambda rng: np.full((64, 64), rng.randint(256), dtype=np.uint8)}


def read_negatives(path):
    """negatives.npz from negatives.py -> {kind: [grey, ...]}."""
    kinds = {}
    with np.load(path) as held:
        for key in held.files:
            kinds.setdefault(key.split("/")[0], []).append(held[key])
    return kinds


def _twice(pictures, side):
    return torch.from_numpy(np.stack([area_average(g, 2 * side, 2 * side) for g in pictures])[:, None]).float() / 255


def _varied(pictures, side, generator, copies, turn):
    """Augmented copies; with `turn` also in every orientation and inverted."""
    out = []
    for _ in range(copies):
        x = _twice(pictures, side)
        if turn:
            k = torch.randint(0, 4, (1,), generator=generator).item()
            x = torch.rot90(x, k, (2, 3))
            if torch.rand(1, generator=generator).item() < 0.3:
                x = 1 - x
        x = F.avg_pool2d(geometry(x, generator, 0.7 if not turn else 1.0), 2)
        x = sharpness(tone(x, generator, 0.8), generator, 0.8)
        out.append(standardise(erase(x, generator)))
    return torch.cat(out)


def negative_pool(chests, kinds, side, seed, size=450):
    """{kind: (about `size`, 1, side, side)} from changed chests, drawn pictures and real others."""
    rng, generator = np.random.RandomState(seed), torch.Generator().manual_seed(seed)
    pool = {}
    for name, change in CHANGED.items():
        taken = [chests[i] for i in rng.choice(len(chests), size, replace=False)]
        pool[name] = _varied([change(g, rng) for g in taken], side, generator, 1, False)
    for name, draw in DRAWN.items():
        pool[name] = torch.from_numpy(np.concatenate([prepare(draw(rng), side) for _ in range(size)]))
    for name, pictures in kinds.items():
        copies = max(1, round(size / len(pictures)))
        parts = [_varied(pictures, side, generator, 1, True) for _ in range(min(copies, 60))]
        pool[name] = torch.cat(parts)
    return pool


def fit_frontal(seed, positive, pool, epochs, log=print):
    """`positive`: (n, 1, side, side); `pool` from `negative_pool`; both classes weigh the same."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    negative = torch.cat(list(pool.values()))
    share = torch.cat([torch.full((len(x),), 1.0 / len(x)) for x in pool.values()])
    network = Frontal()
    averaged = copy.deepcopy(network).eval()
    learnt = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=4e-3, weight_decay=0.02)
    steps, step = len(positive) // 64, 0
    for epoch in range(epochs):
        network.train()
        order, total = torch.randperm(len(positive), generator=generator), 0.0
        for i in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 4e-3 * (1 - step / (steps * epochs)) + 1e-5
            a = positive[order[i * 64 : i * 64 + 64]]
            b = negative[torch.multinomial(share, 64, replacement=True, generator=generator)]
            target = torch.cat([torch.full((64,), 0.98), torch.full((64,), 0.02)])
            loss = F.binary_cross_entropy_with_logits(network(torch.cat([a, b])), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
            step += 1
            with torch.no_grad():
                keep = min(0.99, (1 + step) / (10 + step))
                for p, q in zip(averaged.state_dict().values(), network.state_dict().values()):
                    p.mul_(keep).add_(q, alpha=1 - keep) if p.dtype.is_floating_point else p.copy_(q)
        log(f"frontal seed {seed} epoch {epoch + 1}/{epochs} loss {total / steps:.4f}")
    return averaged
