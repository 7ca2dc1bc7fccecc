"""Picture preparation of the paediatric chest X-ray model. numpy only.

This is the definition that training, evaluation and the Rust node share. Whoever changes one line
here has to train again and to change the node's copy.

Input: an 8-bit grey picture, bright = dense (MONOCHROME2), any size of at least 1 x 1.
Output: float32, shape (1, 1, SIDE, SIDE), the tensor `picture` of model.onnx.

1. A colour picture becomes grey by `luma`. Equal R, G and B give that same value.
2. The picture is squashed to SIDE x SIDE by `area_average`: output pixel i of n, along an axis of s
   source pixels, is the mean over the interval [i*s/n, (i+1)*s/n) of the source, border pixels
   weighted by the fraction that lies inside. Rows and columns are independent (separable); sums in
   float64. The aspect ratio is not kept. Nothing is rounded to whole grey levels.
3. x = (v - mean) / (std + EPSILON), with mean and population standard deviation of the SIDE * SIDE
   values, in grey levels (0 to 255), float64; the result is cast to float32.
"""

from functools import lru_cache

import numpy as np

SIDE = 32
EPSILON = 1.0


def luma(rgb: np.ndarray) -> np.ndarray:
    """(rows, columns, 3) uint8 -> (rows, columns) uint8: (19595 R + 38470 G + 7471 B + 32768) >> 16."""
    r, g, b = (rgb[..., i].astype(np.uint32) for i in range(3))
    return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16).astype(np.uint8)


@lru_cache(maxsize=64)
def box_weights(source: int, target: int) -> np.ndarray:
    """Weights of the area average along one axis, shape (target, source), each row summing to 1."""
    scale = source / target
    weights = np.zeros((target, source), dtype=np.float64)
    for i in range(target):
        start, end = i * scale, (i + 1) * scale
        for j in range(int(start), min(source, int(np.ceil(end)))):
            weights[i, j] = max(0.0, min(end, j + 1) - max(start, j))
        weights[i] /= weights[i].sum()
    return weights


def area_average(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(rows', columns') of any number type -> (rows, columns) float64 by `box_weights`."""
    down = box_weights(grey.shape[0], rows)
    across = box_weights(grey.shape[1], columns)
    return down @ grey.astype(np.float64) @ across.T


def standardise(values: np.ndarray) -> np.ndarray:
    """Mean 0, standard deviation near 1; a picture of one grey level becomes all zero."""
    values = values.astype(np.float64)
    return ((values - values.mean()) / (values.std() + EPSILON)).astype(np.float32)


def prepare(picture: np.ndarray, side: int = SIDE) -> np.ndarray:
    """8-bit picture, (rows, columns) or (rows, columns, 3) -> model input (1, 1, side, side)."""
    grey = luma(picture) if picture.ndim == 3 else picture
    return standardise(area_average(grey, side, side))[None, None]
