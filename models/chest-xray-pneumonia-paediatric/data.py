"""Reads the pictures, labels and patient groups of the public chest X-ray sets."""

import csv
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from preprocess import luma

SPLIT_SEED = 20180222
VALIDATION_SHARE = 0.15


@dataclass
class Pictures:
    """Pictures of one tar file, in the order of its labels.csv."""

    files: list  # names as in labels.csv
    sha256: list  # of each picture file, as read
    grey: list  # (rows, columns) uint8 each
    rows: list  # the rows of labels.csv


def decode(data: bytes) -> np.ndarray:
    """JPEG or PNG bytes -> (rows, columns) uint8 grey."""
    image = Image.open(io.BytesIO(data))
    if image.mode == "L":
        return np.asarray(image)
    return luma(np.asarray(image.convert("RGB")))


def read(folder: Path, tar: str, split: str = "") -> Pictures:
    """Pictures of `folder/tar` that labels.csv lists (in split `split`, if given)."""
    with open(folder / "labels.csv", newline="") as f:
        rows = [row for row in csv.DictReader(f) if not split or row["split"] == split]
    held = {}
    with tarfile.open(folder / tar) as archive:
        for member in archive:
            if member.isfile():
                held[member.name] = archive.extractfile(member).read()
    data = [held[row["file"]] for row in rows]
    digests = [hashlib.sha256(d).hexdigest() for d in data]
    for row, digest in zip(rows, digests):
        if row.get("sha256", digest) != digest:
            raise SystemExit(f"{row['file']}: its SHA-256 is not the one in labels.csv")
    return Pictures([r["file"] for r in rows], digests, [decode(d) for d in data], rows)


def labels(pictures: Pictures) -> np.ndarray:
    return np.array([float(row["pneumonia"]) for row in pictures.rows], dtype=np.float32)


def training_and_validation(folder: Path):
    """The training tar, cut into training and validation indices by patient group.

    Left out of both: exact copies of an earlier picture, and every group whose name also occurs in
    the official test set (the numbers may have been given anew there, but nobody documents it).
    """
    pictures = read(folder, "train.tar", "train")
    with open(folder / "labels.csv", newline="") as f:
        test_groups = {r["patient_group"] for r in csv.DictReader(f) if r["split"] == "test"}
    seen, kept = set(), []
    for i, row in enumerate(pictures.rows):
        if row["patient_group"] in test_groups or pictures.sha256[i] in seen:
            continue
        seen.add(pictures.sha256[i])
        kept.append(i)
    groups = sorted({pictures.rows[i]["patient_group"] for i in kept})
    chosen = np.random.RandomState(SPLIT_SEED).permutation(len(groups))
    held_out = {groups[i] for i in chosen[: int(VALIDATION_SHARE * len(groups))]}
    training = [i for i in kept if pictures.rows[i]["patient_group"] not in held_out]
    validation = [i for i in kept if pictures.rows[i]["patient_group"] in held_out]
    return pictures, np.array(training), np.array(validation)
