"""Compares settings on a change of origin inside the training tar; never opens the official test.

    python3 shift.py --data ../shared/data --side 32 --strength 1 --epochs 14 [--seed 0] [--reverse]

The normal pictures come in two file series, IM-* and NORMAL2-IM-*. One network is trained on the
normal pictures of one series and four fifths of the pneumonia patients, and scored on the other
series and the remaining patients: plain, and under the ten fixed changes of augment.HARDER. Plain
validation by patient is saturated (AUC near 0.997) and cannot tell settings apart.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import torch

from data import labels, training_and_validation
from fit import at_twice, auc, fit, harder, logits, prepared, specificity_at


def is_scored(name, pneumonia, reverse):
    if pneumonia < 0.5:
        return name.startswith("NORMAL2") != reverse
    return int(re.search(r"person(\d+)", name).group(1)) % 10 in ((0, 1) if reverse else (8, 9))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "../../../shared/data")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--reverse", action="store_true", help="train on NORMAL2, score on IM")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pictures, a, b = training_and_validation(args.data / "cxr-pneumonia")
    y = labels(pictures)
    index = np.concatenate([a, b])
    scored = np.array([is_scored(Path(pictures.files[i]).name, y[i], args.reverse) for i in index])
    used, held = index[~scored], index[scored]
    grey = [pictures.grey[i] for i in used]
    network = fit(args.seed, at_twice(grey, args.side), prepared(grey, args.side), y[used], args.side,
                  args.epochs, args.widths, args.strength)
    grey = [pictures.grey[i] for i in held]
    changed = [logits(network, x) for x in harder(grey, args.side).values()]
    plain = logits(network, prepared(grey, args.side))
    for name, parts in (("plain", [plain]), ("changed (mean)", changed)):
        areas = np.mean([auc(z, y[held]) for z in parts])
        specificities = np.mean([specificity_at(z, y[held])[0] for z in parts])
        print(f"{name}: AUC {areas:.4f}, specificity at 95 % sensitivity {specificities:.3f}")


if __name__ == "__main__":
    main()
