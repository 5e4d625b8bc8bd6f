"""Fits the predictor's model and writes it for the Go code. See README.md.

    fit.py ROWS-FOLDER WEIGHTS-FILE OUT-FOLDER

Two gradient-boosted tree models of the same features: calls in the open minute
slot (next), and calls in the six slots that begin with it (soon). Everything is
seeded and single-threaded, so that equal rows give equal bytes.

The log loss minds all chances alike; decisions mind only those near a threshold. So
the first model minimises a loss tailored to the thresholds that anybody would choose
(Buja, Stuetzle, Shen, 2005): its slope is the log loss's, weighed by where the
model's log-odds lie.
"""
import csv
import struct
import sys
import zlib

import lightgbm as lgb
import numpy as np

DEPTH = 6           # of the trees: prewarm/model.go's treeDepth
NEXT = dict(trees=108, num_leaves=64, learning_rate=0.1, lambda_l2=20.0, min_data_in_leaf=400)
SOON = dict(trees=60, num_leaves=31, learning_rate=0.12, lambda_l2=20.0, min_data_in_leaf=400)
COMMON = dict(max_depth=DEPTH, feature_fraction=0.3, num_threads=1, seed=1, deterministic=True, force_row_wise=True,
              max_bin=255, verbose=-1)
LOWEST, HIGHEST, SOFT, FLOOR = -6, -1, 0.5, 0.1  # log-odds that matter; how softly that ends, and at what weight
LATE_WEIGHT = 0.5   # of rows of functions that were made to begin late
EXAMPLES = 200      # kept for the test that Go and this program agree
EXTRA = 5           # columns after the features


def read(folder, weights_file):
    names = open(folder + "/names.txt").read().split("\n")[:-1]
    functions = open(folder + "/functions.txt").read().split()
    rows = np.fromfile(folder + "/rows.bin", dtype="<f4").reshape(-1, len(names) + EXTRA)
    with open(weights_file) as f:
        by_name = {r["HashFunction"]: float(r["weight"]) for r in csv.DictReader(f)}
    per_function = np.array([by_name.get(name, 0.0) for name in functions])
    return names, rows, per_function


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def tailored(z, data):
    """Gradient and curvature of the tailored loss."""
    mind = FLOOR + (1 - FLOOR) * sigmoid((z - LOWEST) / SOFT) * sigmoid((HIGHEST - z) / SOFT)
    p = sigmoid(z)
    mind *= data.get_weight()
    return mind * (p - data.get_label()), mind * np.maximum(p * (1 - p), 1e-6)


def fit(rows, n, target, weight, objective, settings):
    """A model, and the log-odds that it begins with."""
    settings = dict(settings)
    trees = settings.pop("trees")
    data = lgb.Dataset(rows[:, :n], rows[:, target], weight=weight)
    chance = np.average(rows[:, target], weights=weight)
    begin = np.log(chance / (1 - chance))
    data.set_init_score(np.full(len(rows), begin))
    return lgb.train(COMMON | settings | dict(objective=objective), data, trees), begin


def below(threshold):
    """The largest float32 that is not above a float64: x <= one if x <= other, for every float32 x."""
    t = np.float32(threshold)
    return t if float(t) <= threshold else np.nextafter(t, np.float32(-np.inf))


def pack_tree(tree, begin):
    """A full binary tree of DEPTH levels: its nodes level by level, each a feature and a threshold, then its leaves.
    Left is x <= threshold, and begin is added to the leaves. What the fit left shallower is filled up with nodes that everything passes to the left."""
    level, nodes = [tree["tree_structure"]], []
    for _ in range(DEPTH):
        below_it = []
        for node in level:
            if "leaf_value" in node:
                nodes.append(struct.pack("<Bf", 0, np.inf))
                below_it += [node, node]
                continue
            assert node["decision_type"] == "<=" and node["split_feature"] < 255
            nodes.append(struct.pack("<Bf", node["split_feature"], below(node["threshold"])))
            below_it += [node["left_child"], node["right_child"]]
        level = below_it
    return b"".join(nodes) + struct.pack(f"<{len(level)}f", *(leaf["leaf_value"] + begin for leaf in level))


def pack(names, models):
    out = b"PLDM" + struct.pack("<HHI", 2, len(names), zlib.crc32("\n".join(names).encode()))
    for model, begin in models:
        trees = model.dump_model()["tree_info"]
        out += struct.pack("<H", len(trees)) + b"".join(pack_tree(t, 0 if i else begin) for i, t in enumerate(trees))
    return out


def main():
    folder, weights_file, out = sys.argv[1:]
    names, rows, per_function = read(folder, weights_file)
    n = len(names)
    weight = 1 + per_function[rows[:, n + 3].astype(int)] / per_function.mean()
    weight *= np.where(rows[:, n + 4] > 0, LATE_WEIGHT, 1)
    models = [fit(rows, n, n, weight, tailored, NEXT), fit(rows, n, n + 1, weight, "binary", SOON)]
    with open(out + "/model.bin", "wb") as f:
        f.write(pack(names, models))
    pick = np.random.RandomState(1).choice(len(rows), EXAMPLES, replace=False)
    chances = np.stack([sigmoid(m.predict(rows[pick, :n], raw_score=True, num_threads=1) + begin) for m, begin in models], 1)
    with open(out + "/examples.bin", "wb") as f:
        f.write(np.concatenate([rows[pick, :n], chances], 1).astype("<f4").tobytes())
    print(len(rows), "rows,", n, "features")
    gain = models[0][0].feature_importance("gain")
    for i in np.argsort(-gain)[:20]:
        print(f"{gain[i]:12.0f}  {names[i]}")


if __name__ == "__main__":
    main()
