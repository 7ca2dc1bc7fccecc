"""Random changes for training, and the fixed changes of the harder validation."""

import math

import numpy as np
import torch
from torch.nn import functional as F


def uniform(n, low, high, generator):
    return torch.rand(n, generator=generator) * (high - low) + low


def chance(n, p, generator):
    return torch.rand(n, generator=generator) < p


def standardise(x):
    """As preprocess.standardise, for values 0 to 1 (EPSILON is one grey level)."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    std = x.std(dim=(1, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (std + 1.0 / 255.0)


def geometry(x, generator, strength):
    """Zoom, aspect ratio, shift, small rotation, mirror. Outside the picture is black or repeated."""
    n = len(x)
    zoom = torch.exp(uniform(n, -0.28, 0.16, generator) * strength)
    aspect = torch.exp(uniform(n, -0.2, 0.2, generator) * strength)
    angle = uniform(n, -math.pi / 15, math.pi / 15, generator) * strength
    mirror = torch.where(chance(n, 0.5, generator), -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = zoom * aspect * torch.cos(angle) * mirror
    theta[:, 0, 1] = -zoom * aspect * torch.sin(angle)
    theta[:, 1, 0] = zoom / aspect * torch.sin(angle) * mirror
    theta[:, 1, 1] = zoom / aspect * torch.cos(angle)
    theta[:, :, 2] = (torch.rand(n, 2, generator=generator) - 0.5) * 0.24 * strength
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    black = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    repeated = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return torch.where(chance(n, 0.5, generator)[:, None, None, None], black, repeated)


def tone(x, generator, strength):
    """Gamma, contrast and brightness with clipping, a slow change of brightness over the picture."""
    n = len(x)
    shape = (n, 1, 1, 1)
    x = x.clamp(1e-4, 1.0) ** torch.exp(uniform(n, -0.55, 0.55, generator) * strength).view(shape)
    contrast = torch.exp(uniform(n, -0.4, 0.5, generator) * strength).view(shape)
    brightness = (uniform(n, -0.15, 0.15, generator) * strength).view(shape)
    x = ((x - 0.5) * contrast + 0.5 + brightness).clamp(0.0, 1.0)
    coarse = torch.randn(n, 1, 3, 3, generator=generator) * 0.12 * strength
    slow = F.interpolate(coarse, size=x.shape[2:], mode="bilinear", align_corners=True)
    use = chance(n, 0.5, generator).view(shape)
    return torch.where(use, (x * torch.exp(slow)).clamp(0.0, 1.0), x)


def sharpness(x, generator, strength):
    """From sharpened to blurred, then noise."""
    n = len(x)
    shape = (n, 1, 1, 1)
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
    soft = F.pad(x, (2, 2, 2, 2), mode="replicate")
    soft = F.conv2d(soft, kernel.view(1, 1, 5, 1))
    soft = F.conv2d(soft, kernel.view(1, 1, 1, 5))
    amount = uniform(n, -0.7, 1.0, generator).view(shape) * strength
    x = x + amount * (soft - x)
    noise = torch.randn(x.shape, generator=generator)
    return x + noise * uniform(n, 0.0, 0.035, generator).view(shape) * strength


def erase(x, generator):
    """Strips at the edges and blocks in the corners, where markers, text and collimation lie."""
    n, side = len(x), x.shape[-1]
    x = x.clone()
    draw = torch.rand(n, 12, generator=generator).tolist()
    for i, r in enumerate(draw):
        grey = 0.0 if r[0] < 0.5 else (1.0 if r[0] < 0.6 else r[1])
        if r[2] < 0.3:
            width = 1 + int(r[3] * 0.12 * side)
            edge = int(r[4] * 4)
            if edge == 0:
                x[i, :, :width] = grey
            elif edge == 1:
                x[i, :, -width:] = grey
            elif edge == 2:
                x[i, :, :, :width] = grey
            else:
                x[i, :, :, -width:] = grey
        if r[5] < 0.5:
            high, wide = 2 + int(r[6] * 0.22 * side), 2 + int(r[7] * 0.22 * side)
            top = 0 if r[8] < 0.5 else side - high
            left = 0 if r[9] < 0.5 else side - wide
            x[i, :, top : top + high, left : left + wide] = r[10]
        if r[11] < 0.2:
            top, left = int(r[8] * side * 0.8), int(r[9] * side * 0.8)
            x[i, :, top : top + side // 6, left : left + side // 6] = r[1]
    return x


def augment(x, side, generator, strength: float = 1.0):
    """(n, 1, 2 * side, 2 * side) in 0 to 1 -> (n, 1, side, side), standardised."""
    x = geometry(x, generator, strength)
    x = F.avg_pool2d(x, 2)
    x = tone(x, generator, strength)
    x = sharpness(x, generator, strength)
    x = erase(x, generator)
    return standardise(x)


# The harder validation: fixed changes of the 8-bit picture, before `preprocess.prepare`. Some lie
# outside the ranges above (gamma, crop), some are of a kind not trained on (clipped window, JPEG-like
# coarse grey levels, square-wave grid, top-to-bottom gradient).

def _gamma(grey, g):
    return (255.0 * (grey / 255.0) ** g).round().astype(np.uint8)


def _box_blur(grey, radius):
    padded = np.pad(grey.astype(np.float64), radius, mode="edge")
    total = np.zeros(grey.shape)
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            total += padded[dy : dy + grey.shape[0], dx : dx + grey.shape[1]]
    return (total / (2 * radius + 1) ** 2).round().astype(np.uint8)


def _crop(grey, top, bottom, left, right):
    h, w = grey.shape
    return grey[int(top * h) : h - int(bottom * h), int(left * w) : w - int(right * w)]


def _pad(grey, rows, columns, value):
    h, w = grey.shape
    y, x = int(rows * h), int(columns * w)
    return np.pad(grey, ((y, y), (x, x)), constant_values=value)


def _window(grey, low, high):
    a, b = np.percentile(grey, [low, high])
    return (255.0 * np.clip((grey - a) / max(b - a, 1.0), 0.0, 1.0)).round().astype(np.uint8)


def _gradient(grey):
    ramp = np.linspace(0.65, 1.25, grey.shape[0])[:, None]
    return np.clip(grey * ramp, 0, 255).round().astype(np.uint8)


HARDER = {
    "gamma 0.45": lambda g: _gamma(g, 0.45),
    "gamma 2.2": lambda g: _gamma(g, 2.2),
    "window 10 to 90 %": lambda g: _window(g, 10, 90),
    "crop 12 % all round": lambda g: _crop(g, 0.12, 0.12, 0.12, 0.12),
    "crop top 18 %, left 10 %": lambda g: _crop(g, 0.18, 0.0, 0.10, 0.0),
    "black bars left and right, 15 %": lambda g: _pad(g, 0.0, 0.15, 0),
    "grey bars top and bottom, 12 %": lambda g: _pad(g, 0.12, 0.0, 90),
    "blur 9 x 9 at 224 pixels": lambda g: _box_blur(g, 4),
    "darker towards the top": _gradient,
    "12 grey levels": lambda g: (g // 22 * 22 + 11).astype(np.uint8),
}
