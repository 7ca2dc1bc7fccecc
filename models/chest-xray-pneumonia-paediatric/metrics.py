"""What evaluation.json holds for one set of probabilities."""

import numpy as np

from fit import auc, specificity_at

RESAMPLES = 2000


def ece(p, y, bins=10):
    """Expected calibration error of P(pneumonia), `bins` bins of equal width."""
    index = np.minimum((p * bins).astype(int), bins - 1)
    parts = [abs(p[index == i].mean() - y[index == i].mean()) * (index == i).mean() for i in set(index)]
    return float(sum(parts))


def point(p, y, threshold=0.5):
    called = p >= threshold
    return {
        "auc": float(auc(p, y)),
        "accuracy": float((called == (y > 0.5)).mean()),
        "sensitivity": float(called[y > 0.5].mean()),
        "specificity": float((~called[y < 0.5]).mean()),
        "specificity_at_95_sensitivity": specificity_at(p, y)[0],
        "brier": float(((p - y) ** 2).mean()),
        "ece": ece(p, y),
    }


def with_intervals(p, y, groups, threshold=0.5):
    """Each value with its bootstrap 95 % interval; whole patient groups are drawn."""
    rng = np.random.RandomState(1)
    members = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    members = [np.array(m) for m in members.values()]
    drawn = []
    while len(drawn) < RESAMPLES:
        index = np.concatenate([members[i] for i in rng.randint(0, len(members), len(members))])
        if 0 < y[index].sum() < len(index):
            drawn.append(point(p[index], y[index], threshold))
    out = {"pictures": len(y), "pneumonia": int(y.sum()), "threshold": threshold}
    for name, value in point(p, y, threshold).items():
        low, high = np.percentile([d[name] for d in drawn], [2.5, 97.5])
        out[name] = {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
    return out
