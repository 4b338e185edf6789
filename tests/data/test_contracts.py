"""Whoever offers the members of a contract is trained and evaluated, and nothing else of it is looked at."""

import ast
import html
import json
import typing
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import pytorch_lightning as pl
import standins
import torch

import ssl_mi.data
from ssl_mi.app import startup as cli
from ssl_mi.app.runner import Run
from ssl_mi.callbacks.evaluate import Evaluate
from ssl_mi.callbacks.history import History
from ssl_mi.data.contracts import Data, Images, Samples, Split
from ssl_mi.data.images.folder import ImageFiles
from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.known.data import KnownData
from ssl_mi.data.known.sprites import Sprites
from ssl_mi.evaluation import contracts as needed
from ssl_mi.evaluation.geometry import Geometry
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.evaluation.pictures import Pictures
from ssl_mi.evaluation.probes import KNN, LinearProbe
from ssl_mi.information.projections.linear import CCA
from ssl_mi.information.variational.bounds import InfoNCE
from ssl_mi.information.variational.critics import Cosine
from ssl_mi.joint_embedding import JointEmbedding
from ssl_mi.networks.towers import Siamese
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamples
from tests.data.vectors import MLP, VectorData, Vectors

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
]


def members(protocol):
    """What a protocol asks for, by name."""
    found = set(typing.get_type_hints(protocol)) | {n for n in vars(protocol) if not n.startswith("_")}
    return found | ({"__len__"} if "__len__" in vars(protocol) else set())


def image_data():
    data = standins.image_data(train=96, test=30)
    data.setup()
    return data


def known_data():
    data = KnownData(Sprites(shared=["shape"]), 16, 32, [0.5] * 3, [0.25] * 3, train=32, val=20, test=24)
    data.setup()
    return data


def vector_data(**options):
    data = VectorData(**options)
    data.setup()
    return data


@pytest.mark.parametrize("make", [image_data, known_data, vector_data])
def test_every_data_module_offers_the_contract(make):
    data = make()
    assert isinstance(data, Data)
    for split in (data.train, data.labelled, data.val, data.test):
        assert isinstance(split, Split)
    json.dumps(data.report(), allow_nan=False)
    assert "\n" not in data.describe()


def test_evaluations_need_a_part_of_what_data_offer():
    assert members(needed.EvaluationData) <= members(Data)
    assert members(needed.Split) == members(Split)
    assert len(members(Data)) <= 18


def test_samples_and_images_of_the_package_offer_their_contracts():
    images = TensorImages(torch.zeros(4, 3, 2, 2, dtype=torch.uint8))
    for name in members(Images) | members(Samples):
        assert hasattr(images, name)
        assert hasattr(ImageFiles([]), name)
    assert members(Samples) <= set(dir(Vectors))


class Only(pl.LightningDataModule):
    """Another data module, of which nothing can be had but the contract."""

    def __init__(self, data):
        super().__init__()
        self.__dict__["_data"] = data

    def __getattribute__(self, name):
        if name in members(Data):
            return getattr(object.__getattribute__(self, "__dict__")["_data"], name)
        return super().__getattribute__(name)


def evaluations(folder):
    return {
        "mi": MutualInformation({"cca2": CCA(2)}, k=2, permutations=2, subsets=2),
        "linear": LinearProbe(),
        "knn": KNN(),
        "geometry": Geometry(),
        "pictures": Pictures(folder),
    }


def test_callbacks_and_evaluations_ask_for_nothing_but_the_contract(tmp_path):
    data = Only(image_data())
    assert not hasattr(data, "augmentation")
    evaluate, history = Evaluate(evaluations(tmp_path), 1, tmp_path), History()
    standins.fit(standins.joint_embedding(), data, [evaluate, history], 1)
    assert {row.encoder for row in evaluate.rows} == {"trained", "random", "pixels"}
    assert history.epochs[0]["images_per_second"] > 0


# Data of another kind


def module_for(data):
    torch.manual_seed(0)
    return JointEmbedding(
        Siamese(MLP(data.d)),
        lambda dim: Infomax(dim, Cosine(0.2), InfoNCE(), OtherSamples(), "infonce"),
        partial(torch.optim.Adam, lr=1e-2),
    )


def run_on(configure, data, *overrides):
    cfg = configure("trainer.max_epochs=2", "evaluation.every_n_epochs=1", *overrides)
    cli.start(cfg)
    run = Run(cfg, data, module_for(data))
    with run.reported():
        run.trainer.fit(run.module, run.data)
    return run


def test_float_vectors_are_trained_evaluated_and_reported(configure):
    run = run_on(configure, VectorData(), "evaluation.evaluations.mi.permutations=3")
    final = {row.metric: row for row in run.evaluate.rows if row.split == "test" and row.encoder == "trained"}
    expected = {
        "mi_ksg_cca4_nats",
        "mi_bound_infonce_nats",
        "mi_h_label_nats",
        "mi_h_first_nats",
        "linear_probe_accuracy",
        "knn_accuracy",
        "effective_rank_z",
    }
    assert expected <= set(final)
    # Centres 2 sqrt 2 apart, noise of 1: Bayes errs on at most 2 Phi(-sqrt 2) = 16%, chance on 67%.
    assert final["linear_probe_accuracy"].value > 0.6
    assert final["mi_ksg_cca4_nats"].low > 0
    pixels = next(row for row in run.evaluate.rows if row.encoder == "pixels")
    assert pixels.value > 0.6  # the vectors themselves
    page = html.unescape((run.folder / "report.html").read_text())
    short = (run.folder / "report.md").read_text()
    assert "clusters: 256 train, 128 val, 128 test; 3 classes; rows" in page
    assert "2 x [mask 0.2 of the columns > noise of 0.3]" in page
    for picture in ("training.png", "information.png", "probes.png", "map.png"):
        assert f"]({picture})" in short
    assert "views.png" not in page  # there is nothing to see


def test_vectors_without_labels_are_measured_without_probes(configure):
    run = run_on(configure, VectorData(labels=False), "evaluation.evaluations.mi.permutations=0")
    assert {row.evaluation for row in run.evaluate.rows} == {"mi", "geometry"}


def test_views_of_vectors_are_those_of_the_draw_whatever_the_batch():
    data = vector_data()
    whole = data.views(next(data.batches("val", batch_size=128)), 3).views
    parts = [data.views(source, 3).views for source in data.batches("val", batch_size=50)]
    for v in range(2):
        torch.testing.assert_close(torch.cat([part[v] for part in parts]), whole[v])
    other = data.views(next(data.batches("val", batch_size=128)), 4).views
    assert not torch.equal(other[0], whole[0])


def test_what_vectors_must_be_is_checked_by_their_own_class():
    with pytest.raises(ValueError, match=r"finite float32 \[N, d\], not torch.int64"):
        Vectors(torch.zeros(3, 2, dtype=torch.int64))


def test_the_modules_of_data_import_each_other_in_no_circle():
    """Also for types alone: a circle there is a contract that stands in the wrong file."""
    folder = Path(ssl_mi.data.__file__).parent
    files = {f"ssl_mi.data.{'.'.join(p.relative_to(folder).with_suffix('').parts)}": p for p in folder.rglob("*.py")}
    arrows = {}
    for name, path in files.items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        arrows[name] = {n.module for n in nodes if n.module in files}
    assert "ssl_mi.data.sets" in arrows["ssl_mi.data.images.folder"]
    list(TopologicalSorter(arrows).static_order())  # raises CycleError, which names the circle
