"""Fits the predictor's model and writes it for the Go code. See README.md.

    fit.py ROWS-FOLDER WEIGHTS-FILE OUT-FOLDER

Two gradient-boosted tree models of the same features: calls in the open minute
slot (next), and calls in the six slots that begin with it (soon). Everything is
seeded and single-threaded, so that equal rows give equal bytes.
"""
import csv
import struct
import sys
import zlib

import lightgbm as lgb
import numpy as np

NEXT = dict(trees=110, num_leaves=63, max_depth=8, learning_rate=0.1, lambda_l2=20.0, min_data_in_leaf=400)
SOON = dict(trees=60, num_leaves=31, max_depth=7, learning_rate=0.12, lambda_l2=20.0, min_data_in_leaf=400)
COMMON = dict(objective="binary", feature_fraction=0.3, num_threads=1, seed=1, deterministic=True, force_row_wise=True,
              max_bin=255, verbose=-1)
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


def fit(rows, n, target, weight, settings):
    settings = dict(settings)
    trees = settings.pop("trees")
    data = lgb.Dataset(rows[:, :n], rows[:, target], weight=weight)
    return lgb.train(COMMON | settings, data, trees)


def below(threshold):
    """The largest float32 that is not above a float64: x <= one if x <= other, for every float32 x."""
    t = np.float32(threshold)
    return t if float(t) <= threshold else np.nextafter(t, np.float32(-np.inf))


def pack_tree(tree):
    """Nodes in breadth-first order, children side by side: feature, first child, threshold; a leaf has feature 255
    and its value. Left is x <= threshold."""
    queue, nodes, i = [tree["tree_structure"]], [], 0
    while i < len(queue):
        node = queue[i]
        i += 1
        if "leaf_value" in node:
            nodes.append(struct.pack("<BHf", 255, 0, node["leaf_value"]))
            continue
        assert node["decision_type"] == "<=" and node["split_feature"] < 255
        nodes.append(struct.pack("<BHf", node["split_feature"], len(queue), below(node["threshold"])))
        queue += [node["left_child"], node["right_child"]]
    return struct.pack("<H", len(nodes)) + b"".join(nodes)


def pack(names, models):
    out = b"PLDM" + struct.pack("<HHI", 1, len(names), zlib.crc32("\n".join(names).encode()))
    for model in models:
        trees = model.dump_model()["tree_info"]
        out += struct.pack("<H", len(trees)) + b"".join(pack_tree(t) for t in trees)
    return out


def main():
    folder, weights_file, out = sys.argv[1:]
    names, rows, per_function = read(folder, weights_file)
    n = len(names)
    weight = 1 + per_function[rows[:, n + 3].astype(int)] / per_function.mean()
    weight *= np.where(rows[:, n + 4] > 0, LATE_WEIGHT, 1)
    models = [fit(rows, n, n, weight, NEXT), fit(rows, n, n + 1, weight, SOON)]
    with open(out + "/model.bin", "wb") as f:
        f.write(pack(names, models))
    pick = np.random.RandomState(1).choice(len(rows), EXAMPLES, replace=False)
    chances = np.stack([m.predict(rows[pick, :n], num_threads=1) for m in models], 1)
    with open(out + "/examples.bin", "wb") as f:
        f.write(np.concatenate([rows[pick, :n], chances], 1).astype("<f4").tobytes())
    print(len(rows), "rows,", n, "features")
    for i in np.argsort(-models[0].feature_importance("gain"))[:20]:
        print(f"{models[0].feature_importance('gain')[i]:12.0f}  {names[i]}")


if __name__ == "__main__":
    main()
