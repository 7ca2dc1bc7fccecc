"""Decodes DICOM files with pydicom and writes what came out, for comparison.

    python decode_reference.py OUT [FOLDER ...]

Reads every file with pixels among pydicom's own test files, the package pydicom-data and the
folders given. For each writes one JSON line to standard output: the path, Rows, Columns,
samples, and for each decoder plugin that gave something of its own the frames taken (first, middle, last) with a
file in OUT that holds their values (YBR converted to RGB) as little endian 32-bit integers or
64-bit floats; or the error.
"""

import json
import logging
import pathlib
import sys
import warnings

import numpy as np
import pydicom
from pydicom.pixels import get_decoder

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def folders(given):
    yield pathlib.Path(pydicom.__file__).parent / "data" / "test_files"
    try:
        import data_store

        yield pathlib.Path(data_store.__file__).parent / "data"
    except ImportError:
        pass
    yield from (pathlib.Path(folder) for folder in given)


def plugins(decoder):
    if decoder.is_native:
        return [""]
    wanted = ("pylibjpeg", "gdcm", "pyjpegls", "pydicom", "pillow")
    return [name for name in wanted if name in decoder.available_plugins]


def decode(dataset, decoder, plugin, indices):
    frames = decoder.iter_array(
        dataset, indices=indices, raw=False, decoding_plugin=plugin, validate=True
    )
    return [np.array(frame) for frame, _ in frames]


def same(some, others):
    return all(np.array_equal(one, other) for one, other in zip(some, others))


def reference(path, out, number):
    dataset = pydicom.dcmread(path, force=True)
    if not any(keyword in dataset for keyword in KEYWORDS):
        return None
    line = {"path": str(path), "answers": [], "errors": []}
    try:
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    except Exception as error:  # noqa: BLE001
        line["errors"].append(f"{type(error).__name__}: {error}"[:200])
        return line
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    indices = sorted({0, count // 2, count - 1})
    seen = []
    for plugin in plugins(decoder):
        try:
            frames = decode(dataset, decoder, plugin, indices)
        except Exception as error:  # noqa: BLE001
            line["errors"].append(f"{plugin}: {type(error).__name__}: {error}"[:200])
            continue
        if any(same(frames, other) for other in seen):
            continue
        seen.append(frames)
        is_float = frames[0].dtype.kind == "f" or frames[0].dtype.itemsize > 4
        is_float = is_float or (frames[0].dtype.kind, frames[0].dtype.itemsize) == ("u", 4)
        file = out / f"{number}-{plugin or 'native'}.bin"
        with open(file, "wb") as to:
            for frame in frames:
                frame.astype("<f8" if is_float else "<i4").tofile(to)
        samples = 3 if frames[0].ndim == 3 else 1
        line["answers"].append(
            {
                "plugin": plugin or "native",
                "frames": indices,
                "rows": frames[0].shape[0],
                "columns": frames[0].shape[1],
                "samples": samples,
                "float": bool(is_float),
                "file": str(file),
            }
        )
    return line


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    number = 0
    for folder in folders(sys.argv[2:]):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if path.suffix in (".py", ".pyc", ".json", ".md", ".txt", ".tar", ".png", ".csv"):
                continue
            number += 1
            try:
                line = reference(path, out, number)
            except Exception as error:  # noqa: BLE001
                print(f"{path.name}: {error}", file=sys.stderr)
                continue
            if line is not None:
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
