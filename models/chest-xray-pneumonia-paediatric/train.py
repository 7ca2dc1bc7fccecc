"""Trains, calibrates, exports and evaluates the paediatric chest X-ray model. One command, CPU only.

    python3 negatives.py --data ../shared/data --extra RG3_UNCR.dcm --out negatives.npz
    python3 train.py --data ../shared/data --negatives negatives.npz --work /some/empty/folder

Needs PyTorch 1.13, numpy and Pillow. Every seed is fixed, one thread is used, so a second run on the
same machine and versions gives the same weights.

--data       folder that holds cxr-pneumonia/, cxr-nih14/ and cxr-nih-adult-pneumonia/
             (default: ../shared/data beside the repository)
--negatives  pictures that are no chest X-rays, from negatives.py
--work       folder for the weights of each seed; seeds found there are not trained again
--seeds      default 1 2 3 4 5; several processes may train one seed each (--train-only)
--epochs     default 30
--train-only stop after the seeds are trained
--no-test    stop before the official test pictures are opened: everything else is done

The official test pictures are read in `report` only, after everything has been chosen and written.
"""

import argparse
import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

import plausibility as plausible
from data import labels, read, training_and_validation
from export import OUTPUTS, Combined, export
from fit import at_twice, auc, cross_entropy, fit, harder, logits, prepared, sigmoid, specificity_at
from metrics import with_intervals
from network import Network
from preprocess import EPSILON, SIDE, area_average, prepare

HERE = Path(__file__).resolve().parent
EPOCHS = 30
WIDTHS = (16, 32, 64)
STRENGTH = 0.85  # of the augmentation; see shift.py and the model card for how it was chosen
THRESHOLD = 0.5
FRONTAL_EPOCHS = 6


def calibrate(z_sets, y):
    """Slope and offset of Platt scaling: least cross-entropy over all sets, classes of equal weight."""
    z = torch.from_numpy(np.concatenate(z_sets))
    t = torch.from_numpy(np.tile(y, len(z_sets))).double()
    w = torch.where(t > 0.5, 0.5 / t.mean(), 0.5 / (1 - t.mean()))
    a, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.0, 0.0))
    optimiser = torch.optim.LBFGS([a, b], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(a * z + b, t, weight=w)
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(a), float(b)


def summary(z_by_set, y):
    """AUC and specificity at 95 % sensitivity on the plain and on the changed validation pictures."""
    changed = [z for name, z in z_by_set.items() if name != "plain"]
    return {
        "plain": {"auc": round(auc(z_by_set["plain"], y), 4),
                  "specificity_at_95_sensitivity": round(specificity_at(z_by_set["plain"], y)[0], 4)},
        "changed": {"auc_mean": round(float(np.mean([auc(z, y) for z in changed])), 4),
                    "auc_least": round(float(np.min([auc(z, y) for z in changed])), 4),
                    "specificity_at_95_sensitivity_mean":
                        round(float(np.mean([specificity_at(z, y)[0] for z in changed])), 4)},
    }


def train_seeds(args, training, y):
    missing = [s for s in args.seeds if not (args.work / f"seed{s}.pt").exists()]
    if missing:
        source, exact = at_twice(training, SIDE), prepared(training, SIDE)
    for seed in missing:
        network = fit(seed, source, exact, y, SIDE, args.epochs, WIDTHS, STRENGTH,
                      log=lambda s: print(s, flush=True))
        torch.save(network.state_dict(), args.work / f"seed{seed}.pt")
    networks = []
    for seed in args.seeds:
        network = Network(WIDTHS)
        network.load_state_dict(torch.load(args.work / f"seed{seed}.pt"))
        networks.append(network.eval())
    return networks


@torch.no_grad()
def scores(frontal, distance, x):
    frontal.eval()
    return sigmoid(frontal(x).numpy()), distance(x).numpy()


def fit_plausibility(args, training, validation, adults):
    """Both scores, their limits, and the rates on kinds that were left out of the training."""
    kinds = plausible.read_negatives(args.negatives)
    generator = torch.Generator().manual_seed(7)
    cut = len(adults) * 4 // 5
    chests = training + adults[:cut]
    positive = torch.cat([
        prepared(chests, SIDE), plausible._varied(chests, SIDE, generator, 1, False)])
    held_out = prepared(validation + adults[cut:], SIDE)
    pool = plausible.negative_pool(chests, kinds, SIDE, 1)
    distance = plausible.fit_distance(positive)
    frontal = plausible.fit_frontal(1, positive, pool, FRONTAL_EPOCHS, log=lambda s: print(s, flush=True))
    f, d = scores(frontal, distance, held_out)
    frontal_min = round(min(0.5, float(np.quantile(f, 1 - plausible.ACCEPTED_FRONTAL))), 4)
    distance_max = round(plausible.DISTANCE_MARGIN * float(np.quantile(d, plausible.ACCEPTED_DISTANCE)), 4)
    accepted = round(float(((f >= frontal_min) & (d <= distance_max)).mean()), 4)
    rates = {}
    groups = {  # left out together: near relatives of each other
        "CT": [k for k in kinds if k.startswith("CT")], "MR": [k for k in kinds if k.startswith("MR")],
        "ultrasound": ["ultrasound"],
        "other real pictures": ["mammogram", "fundus", "endoscopy", "angiogram, bone scan, film sheet",
                                "lateral thorax of a cat (DX)", "tibia (CR)"],
        "turned or upside down": [k for k in plausible.CHANGED if k.startswith(("turned", "upside"))],
        "inverted": ["inverted"],
        "pieces and exchanged quarters": ["small piece of a chest", "quarters exchanged", "two side by side"],
        "drawn": list(plausible.DRAWN),
    }
    test_pool = plausible.negative_pool(validation, {}, SIDE, 2, size=300)
    for k, pictures in kinds.items():
        test_pool[k] = prepared(pictures, SIDE)
    for number, (group, left_out) in enumerate(groups.items()):
        rest = {k: x for k, x in pool.items() if k not in left_out}
        other = plausible.fit_frontal(100 + number, positive, rest, FRONTAL_EPOCHS, log=lambda s: None)
        fo, _ = scores(other, distance, held_out)
        limit = min(0.5, float(np.quantile(fo, 1 - plausible.ACCEPTED_FRONTAL)))
        print("left out:", group, flush=True)
        for k in left_out:
            f, d = scores(frontal, distance, test_pool[k])
            g, _ = scores(other, distance, test_pool[k])
            both = (g < limit) | (d > distance_max)
            rates[k] = {
                "pictures": len(f),
                "rejected": round(float(((f < frontal_min) | (d > distance_max)).mean()), 4),
                "rejected_by_distance_alone": round(float((d > distance_max).mean()), 4),
                "rejected_when_this_group_was_left_out_of_training": round(float(both.mean()), 4),
                "left_out_together": group,
            }
    return frontal, distance, frontal_min, distance_max, accepted, rates


def choose(args):
    """Everything that is decided: on training and validation pictures only. Writes the graph."""
    pictures, training_index, validation_index = training_and_validation(args.data / "cxr-pneumonia")
    y = labels(pictures)
    training = [pictures.grey[i] for i in training_index]
    validation = [pictures.grey[i] for i in validation_index]
    networks = train_seeds(args, training, y[training_index])
    if args.train_only:
        return None
    y_validation = y[validation_index]
    sets = {"plain": prepared(validation, SIDE), **harder(validation, SIDE)}
    z = {seed: {name: logits(n, x) for name, x in sets.items()} for seed, n in zip(args.seeds, networks)}
    mean = {name: np.mean([z[s][name] for s in args.seeds], axis=0) for name in sets}
    slope, offset = calibrate(list(mean.values()), y_validation)
    slope_plain, offset_plain = calibrate([mean["plain"]], y_validation)
    called = {name: slope * v + offset for name, v in mean.items()}
    groups = [pictures.rows[i]["patient_group"] for i in validation_index]
    evaluation = {
        "data": {"training": len(training), "training_pneumonia": int(y[training_index].sum()),
                 "validation": len(validation), "validation_pneumonia": int(y_validation.sum()),
                 "left_out": len(pictures.files) - len(training) - len(validation)},
        "validation": {
            "note": "plain and under ten fixed changes of the picture (augment.HARDER); used for choices",
            "seeds": {str(s): summary(z[s], y_validation) for s in args.seeds},
            "ensemble": summary(mean, y_validation),
            "ensemble_by_change": {k: round(auc(v, y_validation), 4) for k, v in mean.items()},
            "ensemble_plain_with_intervals":
                with_intervals(sigmoid(called["plain"]), y_validation, groups, THRESHOLD),
        },
        "calibration": {
            "method": "Platt scaling of the mean logit, least cross-entropy on the plain and the changed "
                      "validation pictures together, both classes of equal weight (prior 50 %)",
            "slope": slope, "offset": offset,
            "on_the_plain_pictures_alone": {"slope": slope_plain, "offset": offset_plain},
            "cross_entropy_validation_plain": cross_entropy(sigmoid(called["plain"]), y_validation),
        },
    }
    adults = read(args.data / "cxr-nih-adult-pneumonia", "images224.tar")
    order = np.random.RandomState(3).permutation(len(adults.files))
    frontal, distance, frontal_min, distance_max, accepted, rates = fit_plausibility(
        args, training, validation, [adults.grey[i] for i in order])
    evaluation["plausibility"] = {
        "rule": "accepted when frontal >= frontal_min and distance <= distance_max",
        "frontal_min": frontal_min, "distance_max": distance_max,
        "accepted": {"validation (children, and adults not trained on)": accepted},
        "rejected": rates,
    }
    combined = Combined(networks, slope, offset, frontal, distance)
    export(combined, SIDE, HERE / "model.onnx")
    print(json.dumps(evaluation, indent=1))
    return combined, evaluation


@torch.no_grad()
def ask(combined, grey_pictures):
    """Rows of pneumonia, members..., frontal, distance."""
    return np.array([torch.cat(combined(torch.from_numpy(prepare(g))), dim=1)[0].numpy() for g in grey_pictures])


def report(args, combined, evaluation):
    """The one look at the official test pictures; the adults; reference outputs and manifest."""
    test = read(args.data / "cxr-pneumonia", "test.tar", "test")
    y, groups = labels(test), [row["patient_group"] for row in test.rows]
    out = ask(combined, test.grey)
    members = len(args.seeds)
    limits = evaluation["plausibility"]

    def accepted(rows):
        ok = (rows[:, 1 + members] >= limits["frontal_min"]) & (rows[:, 2 + members] <= limits["distance_max"])
        return round(float(ok.mean()), 4)

    p = out[:, 0].astype(np.float64)
    evaluation["official_test"] = {
        "note": "intervals: 95 %, bootstrap over patient groups, 2000 draws",
        "ensemble": with_intervals(p, y, groups, THRESHOLD),
        "seeds": {str(s): with_intervals(out[:, 1 + i].astype(np.float64), y, groups, THRESHOLD)
                  for i, s in enumerate(args.seeds)},
        "by_aetiology_sensitivity": {
            kind: round(float(np.mean([a >= THRESHOLD for a, r in zip(p, test.rows) if r["aetiology"] == kind])), 4)
            for kind in ("bacteria", "virus")},
    }
    limits["accepted"]["official test"] = accepted(out)
    evaluation["adults"] = {"note": "outside the intended use: shown to prove the age gate is needed"}
    for folder, tar in (("cxr-nih14", "images256.tar"), ("cxr-nih-adult-pneumonia", "images224.tar")):
        adults = read(args.data / folder, tar)
        rows = ask(combined, adults.grey)
        ill = np.array([r["Pneumonia"] in ("1", "1.0") for r in adults.rows])
        clear = np.array([r["finding_labels"] == "No Finding" for r in adults.rows])
        use = ill | clear
        q = rows[:, 0].astype(np.float64)
        result = with_intervals(q[use], ill[use].astype(np.float32),
                                [r["patient_id"] for r, u in zip(adults.rows, use) if u], THRESHOLD)
        evaluation["adults"][folder] = {
            "compared": "label Pneumonia against No Finding",
            "auc": result["auc"], "pictures": result["pictures"], "pneumonia": result["pneumonia"],
            "no_finding_called_pneumonia": round(float((q[clear] >= THRESHOLD).mean()), 4),
            "pneumonia_called_pneumonia": round(float((q[ill] >= THRESHOLD).mean()), 4),
        }
        trained = folder == "cxr-nih-adult-pneumonia"
        limits["accepted"][folder + (" (four fifths of it trained on)" if trained else "")] = accepted(rows)
    write_references(test, y, out, members)
    (HERE / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n")
    return evaluation


def write_references(test, y, out, members):
    middle = SIDE // 2
    with open(HERE / "reference_outputs.csv", "w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["file", "sha256", "label", "pneumonia", "frontal", "distance", "grey_mean", "grey_std",
                         "prepared_0_0", f"prepared_{middle}_{middle}", f"prepared_{SIDE - 1}_{SIDE - 1}"])
        for i, name in enumerate(test.files):
            small, x = area_average(test.grey[i], SIDE, SIDE), prepare(test.grey[i])[0, 0]
            values = [out[i, 0], out[i, 1 + members], out[i, 2 + members], small.mean(), small.std(),
                      x[0, 0], x[middle, middle], x[-1, -1]]
            writer.writerow([name, test.sha256[i], int(y[i])] + [f"{float(v):.8g}" for v in values])


def write_manifest(args, evaluation):
    model = (HERE / "model.onnx").read_bytes()
    limits = evaluation["plausibility"]
    manifest = {
        "name": "chest-xray-pneumonia-paediatric",
        "version": "1.0.0",
        "file": "model.onnx",
        "sha256": hashlib.sha256(model).hexdigest(),
        "size_bytes": len(model),
        "opset": 13,
        "license": "CC BY 4.0",
        "license_note": "licence of the training data; attribution in SOURCES.md",
        "medical_device": False,
        "gate": {"modality": ["CR", "DX"], "body_part": "CHEST", "view_position": ["PA", "AP"],
                 "age_years_below": 18, "age_years_of_training_data": [1, 5]},
        "input": {
            "name": "picture", "shape": [1, 1, SIDE, SIDE], "type": "float32", "side": SIDE,
            "picture": "8-bit grey, bright = dense (MONOCHROME2), whole picture, any size",
            "luma": "(19595 R + 38470 G + 7471 B + 32768) >> 16",
            "resampling": "area average with fractional border weights, separable, aspect not kept",
            "standardise": "(v - mean) / (std + epsilon), population std, grey levels 0 to 255",
            "epsilon": EPSILON,
        },
        "outputs": {
            "pneumonia": {"shape": [1, 1], "meaning": "calibrated probability of pneumonia at a prior of 50 %"},
            "members": {"shape": [1, len(args.seeds)], "meaning": "the same from each seed alone"},
            "frontal": {"shape": [1, 1], "meaning": "score of the plausibility network, 0 to 1"},
            "distance": {"shape": [1, 1], "meaning": "distance from frontal chest X-rays, about 1 is usual"},
        },
        "output_names": OUTPUTS,
        "calibration": {"folded_in_graph": True, "slope": evaluation["calibration"]["slope"],
                        "offset": evaluation["calibration"]["offset"], "prior": 0.5},
        "threshold": THRESHOLD,
        "plausibility": {"frontal_min": limits["frontal_min"], "distance_max": limits["distance_max"],
                         "rule": limits["rule"]},
    }
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE / "../../../shared/data")
    parser.add_argument("--negatives", type=Path, default=HERE / "negatives.npz")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--no-test", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    chosen = choose(args)
    if chosen is None or args.no_test:
        return
    evaluation = report(args, *chosen)
    write_manifest(args, evaluation)
    print(json.dumps(evaluation["official_test"]["ensemble"], indent=1))


if __name__ == "__main__":
    main()
