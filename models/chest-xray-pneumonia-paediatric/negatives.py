"""Writes real pictures that are not frontal chest X-rays to one file for plausibility.py.

    python3 negatives.py --data ../shared/data --extra RG3_UNCR.dcm --out negatives.npz

Needs pydicom with decoders (pylibjpeg, -libjpeg, -openjpeg, -rle). `--extra` takes further DICOM
files; the one used is the tibia radiograph RG3 of the PyPI package pydicom-data 1.0.0 (MIT; NEMA
WG04 sample). Every picture is shrunk to at most 256 pixels a side by area averaging.
"""

import argparse
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixel_data_handlers.util import apply_modality_lut, convert_color_space

from preprocess import area_average, luma

KINDS = {
    "CT head": "ct-head-series",
    "CT chest and abdomen": "ct-chest-slices",
    "MR brain T1": "mr-brain-t1-series",
    "MR brain EPI": "mr-brain-epi-series",
    "MR prostate ADC": "mr-prostate-adc-series",
    "MR other": "enhanced-multiframe",
    "ultrasound": "us",
    "mammogram": "mg-mammogram",
    "fundus": "fundus",
    "endoscopy": "vl-endoscopy",
    "angiogram, bone scan, film sheet": "xa-nm-sc",
    "lateral thorax of a cat (DX)": "dx",
}
CT_WINDOWS = [(40, 400), (-600, 1500), (300, 1500)]


def to_bytes(values, low, high):
    return np.clip((values - low) / max(high - low, 1e-6) * 255.0, 0, 255).round().astype(np.uint8)


def grey_versions(dataset, frame):
    """8-bit grey pictures of one frame: CT under three windows, others from 0.5 to 99.5 %."""
    if frame.ndim == 3:
        return [luma(frame.astype(np.uint8))]
    values = np.asarray(apply_modality_lut(frame, dataset), dtype=np.float64)
    if dataset.get("Modality") == "CT" and dataset.get("RescaleIntercept") is not None:
        return [to_bytes(values, c - w / 2, c + w / 2) for c, w in CT_WINDOWS]
    picture = to_bytes(values, *np.percentile(values, [0.5, 99.5]))
    return [255 - picture if dataset.PhotometricInterpretation == "MONOCHROME1" else picture]


def pictures(path):
    dataset = pydicom.dcmread(path)
    array = dataset.pixel_array
    colour = dataset.get("SamplesPerPixel", 1) == 3
    if colour and dataset.PhotometricInterpretation.startswith("YBR_FULL"):
        array = convert_color_space(array, dataset.PhotometricInterpretation, "RGB")
    frames = array if array.ndim == (4 if colour else 3) else array[None]
    found = []
    for frame in frames[:: max(1, len(frames) // 6)]:
        for grey in grey_versions(dataset, frame):
            rows, columns = (min(256, s) for s in grey.shape)
            found.append(area_average(grey, rows, columns).round().astype(np.uint8))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="tibia radiograph(s)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    held = {}
    sources = {kind: sorted((args.data / f).rglob("*.dcm")) for kind, f in KINDS.items()}
    sources["tibia (CR)"] = args.extra
    for kind, paths in sources.items():
        found = []
        for path in paths:
            try:
                found += pictures(path)
            except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
                print(f"left out {path.name}: {error}")
        print(f"{kind}: {len(paths)} files, {len(found)} pictures")
        for i, picture in enumerate(found):
            held[f"{kind}/{i:04}"] = picture
    np.savez_compressed(args.out, **held)


if __name__ == "__main__":
    main()
