"""Peak memory of one evaluation of wide embeddings, in a process of its own: NAME N D CLASSES -> MiB beyond them."""

import sys
from types import SimpleNamespace

import torch
from standins import Observer

from ssl_mi.evaluation.capture_ratio import Capture
from ssl_mi.evaluation.context import EvaluationContext
from ssl_mi.evaluation.embed import Features, Pairs
from ssl_mi.evaluation.geometry import Geometry
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.evaluation.pictures import Pictures
from ssl_mi.evaluation.probes import KNN, LinearProbe
from ssl_mi.information.projections.linear import CCA, PCA


class Given(EvaluationContext):
    """A context whose embeddings are already there."""

    def features(self, split, limit=None):
        return self.given

    def pairs(self, split, limit=None):
        return Pairs((self.given.h, self.given.h), (self.given.h, self.given.h), self.given.index)


def bench(n, d, classes):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    h = torch.empty(n, d)
    for start in range(0, n, 100):  # without temporaries of the whole size
        h[start : start + 100].normal_(generator=generator)
    h[:, 0] += labels
    h[:, 1] += (labels % 2) * 3
    names = tuple(map(str, range(classes)))
    factors = {"u": labels % 2, "v": h[:, 1].clone()}
    samples = SimpleNamespace(labels=labels, factors=factors, class_names=names)
    known = SimpleNamespace(describe=lambda: "known", nats=1.0)
    data = SimpleNamespace(labelled=samples, val=samples, test=samples, batch_size=64, known=known, seed=0)
    data.batches = lambda *rest: iter([SimpleNamespace()])
    data.views = lambda source, draw: SimpleNamespace(views=[torch.zeros(2, 3, 4, 4)] * 2)
    data.to_display = lambda view: view
    made = Given(Observer(), data, "test", 1)
    made.given = Features(h, torch.arange(n), labels)
    return made


def mutual_information(limit=2000):
    return MutualInformation({"cca4": CCA(4), "pca4": PCA(4)}, permutations=0, subsets=0, limit=limit)


EVALUATIONS = {
    "probe": lambda folder: LinearProbe(),
    "knn": lambda folder: KNN(),
    "mi": lambda folder: mutual_information(),
    "capture": lambda folder: Capture(permutations=0),
    "geometry": lambda folder: Geometry(),
    "map": lambda folder: Pictures(folder, points=300),
}


def most():
    """KiB that this process has held at most. `ru_maxrss` starts at the parent's, and would hide what is less."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main(folder, name, n, d, classes):
    at = bench(int(n), int(d), int(classes))
    EVALUATIONS[name](folder).compute(bench(120, 6, 3))  # what is imported and compiled is not counted
    before = most()
    rows = EVALUATIONS[name](folder).compute(at)
    print([(row.metric, round(row.value, 3), row.note) for row in rows], file=sys.stderr)
    print((most() - before) // 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
