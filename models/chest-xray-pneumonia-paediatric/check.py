"""Compares model.onnx with reference_outputs.csv, and how far other decoders and noise move it.

    python3 check.py --data ../shared/data [--write]

Needs numpy, Pillow and onnxruntime, for the second, unrelated JPEG decoder also pylibjpeg-libjpeg;
no PyTorch. `--write` puts the figures into evaluation.json under "checks".
"""

import argparse
import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime

from data import decode
from preprocess import prepare

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=HERE / "../../../shared/data")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(HERE / "model.onnx", options)

    def ask(grey):
        pneumonia, _, frontal, distance = session.run(None, {"picture": prepare(grey)})
        return np.array([pneumonia[0, 0], frontal[0, 0], distance[0, 0]], dtype=np.float64)

    with open(HERE / "reference_outputs.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    held = {}
    with tarfile.open(args.data / "cxr-pneumonia" / "test.tar") as archive:
        for member in archive:
            held[member.name] = archive.extractfile(member).read()
    expected = np.array([[float(r[k]) for k in ("pneumonia", "frontal", "distance")] for r in rows])
    greys = [decode(held[r["file"]]) for r in rows]
    plain = np.array([ask(g) for g in greys])
    rng = np.random.RandomState(0)
    noisy = np.array([ask(np.clip(g.astype(int) + rng.randint(-1, 2, g.shape), 0, 255).astype(np.uint8))
                      for g in greys])
    brighter = np.array([ask(np.clip(g.astype(int) + 1, 0, 255).astype(np.uint8)) for g in greys])

    def moved(a, b):
        d = np.abs(a - b)[:, 0]
        return {"largest": float(d.max()), "mean": float(d.mean()), "over_0.001": int((d > 1e-3).sum())}

    checks = {
        "note": "change of the pneumonia probability over the 624 official test pictures",
        "onnxruntime_against_pytorch": moved(plain, expected),
        "random_plus_minus_one_grey_level_in_every_pixel": moved(noisy, plain),
        "one_grey_level_brighter": moved(brighter, plain),
    }
    try:
        import libjpeg
    except ImportError:
        print("no pylibjpeg-libjpeg: second decoder left out")
    else:
        second = []
        for r in rows:
            colour = libjpeg.decode(held[r["file"]])
            second.append(colour[..., 0] if colour.ndim == 3 else colour)  # it leaves YCbCr as it is
        steps = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(second, greys)]
        checks["libjpeg_decoder_against_pillow"] = {
            **moved(np.array([ask(g) for g in second]), plain),
            "pixels_that_differ": round(float(np.mean([(s > 0).mean() for s in steps])), 5),
            "largest_difference_in_grey_levels": int(max(s.max() for s in steps)),
        }
    print(json.dumps(checks, indent=1))
    if args.write:
        path = HERE / "evaluation.json"
        evaluation = json.loads(path.read_text())
        evaluation["checks"] = checks
        path.write_text(json.dumps(evaluation, indent=1) + "\n")


if __name__ == "__main__":
    main()
