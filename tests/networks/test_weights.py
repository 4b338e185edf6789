"""An encoder starts from all the weights of a run or a file, or from none."""

import sys

import pytest
import torch
import torchvision
from conftest import CONVNET, NO_EVALUATION, TINY
from torch import nn

import ssl_mi
from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.app.export import export
from ssl_mi.checkpoint_format import FORMAT
from ssl_mi.networks import (
    ConvNet,
    Independent,
    ResNet,
    TimmEncoder,
    TorchvisionEncoder,
    Tower,
    ViT,
    measured,
    start_from,
)

SHORT = [*TINY, *NO_EVALUATION, "evaluation.evaluations.capture=null", "trainer.max_epochs=1"]
PREPROCESSING = {"size": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "views": [[]]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return ssl_mi.train(*SHORT, *CONVNET, run_dir=tmp_path_factory.mktemp("run") / "run", quiet=True)


def same(one, other):
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return torch.allclose(one.eval()(x), other.eval()(x), atol=1e-5)


def test_a_run_starts_from_another_and_says_so(trained, tmp_path):
    weights = f"encoder.weights={trained.folder}"
    run = ssl_mi.train(*SHORT, *CONVNET, weights, "optimizer.lr=1e-12", run_dir=tmp_path / "run", quiet=True)
    one, other = (dict(r.encoder.named_parameters()) for r in (run, trained))
    for name, x in one.items():
        assert torch.allclose(x, other[name], atol=1e-6), name  # of lr 1e-12 nothing moved but what decays
    assert "12 of 12 tensors" in run.run.facts()["starts from"]
    # The new checkpoint does not need the old one's file.
    assert same(ssl_mi.load(run.folder), run.encoder)


def test_f_and_g_start_apart(trained, tmp_path):
    other = ConvNet([8, 16])
    torch.save(other.state_dict(), tmp_path / "g.pt")
    towers = "towers.towers.1.encoder"
    g = f"{{_target_: ssl_mi.networks.ConvNet, widths: [8,16], weights: {tmp_path / 'g.pt'}}}"
    cfg = ["towers=independent", "objective=infonce", f"encoder.weights={trained.folder}", f"{towers}={g}"]
    run = ssl_mi.train(*SHORT, *CONVNET, *cfg, "optimizer.lr=1e-12", run_dir=tmp_path / "run", quiet=True)
    weights = [run.run.module.towers.tower_of(v).encoder.layers[0].weight for v in (0, 1)]
    assert torch.allclose(weights[0], trained.encoder.layers[0].weight, atol=1e-6)
    assert torch.allclose(weights[1], other.layers[0].weight, atol=1e-6)


@pytest.mark.parametrize("kind", ["imagenet", "cifar", "vit"])
@pytest.mark.parametrize("format", ["torchvision", "timm", "safetensors", "torchscript"])
def test_an_export_comes_back(kind, format, tmp_path):
    if format in ("timm", "safetensors"):
        pytest.importorskip(format)

    def make(**more):
        return ViT(32, 8, 48, 2, 3, **more) if kind == "vit" else ResNet(18, kind, **more)

    encoder = make()
    where = {"checkpoint": "runs/a/checkpoints/last.ckpt", "which": "online"}
    export(LoadedEncoder(encoder, None, PREPROCESSING, provenance=where), format, tmp_path / "out")
    assert same(make(weights=str(tmp_path / "out")), encoder)


def test_torchvisions_own_file_is_taken_without_its_classifier(tmp_path):
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), tmp_path / "resnet18.pth")
    found = ResNet(18, "imagenet", weights=str(tmp_path / "resnet18.pth"))
    assert found.started_from.endswith("120 of 120 tensors, left out: fc.bias, fc.weight")
    named = TorchvisionEncoder("resnet18", image_size=32, weights=str(tmp_path / "resnet18.pth"))
    net.fc = nn.Identity()
    assert same(found, net)
    assert same(named, net)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layers.0.weight"), r"none was loaded: layers\.0\.weight is missing in the file"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is unknown here"),
        (lambda s: s.update({"layers.0.weight": torch.zeros(8, 3, 5, 5)}), r"is \[8, 3, 5, 5\] in the file and \[8, 3"),
    ],
)
def test_weights_that_fit_in_part_are_refused_by_name_and_change_nothing(change, message, tmp_path):
    encoder = ConvNet([8, 16])
    before = {name: x.clone() for name, x in encoder.state_dict().items()}
    state = ConvNet([8, 16]).state_dict()
    change(state)
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(ValueError, match=message):
        start_from(encoder, tmp_path / "part.pt")
    assert all(torch.equal(x, before[name]) for name, x in encoder.state_dict().items())


def test_a_file_that_is_missing_or_runs_code_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no file and no folder"):
        ConvNet(weights=str(tmp_path / "none.pt"))
    torch.save({"net": nn.Linear(2, 2)}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="cannot be read without running its code"):
        ConvNet(weights=str(tmp_path / "code.pt"))


def test_the_width_of_a_module_of_ones_own_is_measured_and_its_state_kept():
    net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert measured(net, 32).out_dim == 7
    assert net.training
    assert net[1].num_batches_tracked == 0
    with pytest.raises(ValueError, match=r"Conv2d gives \[1, 7, 30, 30\] of one image: an encoder gives a tensor"):
        measured(nn.Conv2d(3, 7, 3), 32)
    with pytest.raises(ValueError, match="Linear cannot take images"):
        measured(nn.Linear(5, 2), 32)


def test_a_module_without_out_dim_trains_by_its_import_path(tmp_path):
    part = "{_target_: ssl_mi.networks.measured, image_size: 32, module: {_target_: torchvision.models.squeezenet1_1}}"
    run = ssl_mi.train(*SHORT, f"towers.encoder={part}", run_dir=tmp_path / "run", quiet=True)
    assert run.encoder.out_dim == 1000
    with pytest.raises(ValueError, match=r"another package, torchvision\.models\.squeezenet1_1"):
        ssl_mi.load(run.folder)
    assert same(ssl_mi.load(run.folder, trust=True), run.encoder)


def test_timm_gives_encoders_by_name():
    pytest.importorskip("timm")
    encoder = TimmEncoder("resnet18", image_size=32)
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, encoder.out_dim)
    with pytest.raises(ValueError, match="timm has no network 'resnet1'"):
        TimmEncoder("resnet1")


def test_timm_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"encoder=timm needs timm: pip install 'ssl_mi\[export\]'"):
        TimmEncoder("resnet18")


def test_pretrained_and_weights_contradict_each_other():
    with pytest.raises(ValueError, match="give pretrained=true or weights=DEFAULT, not both"):
        TorchvisionEncoder("resnet18", weights="DEFAULT", pretrained=True)


def test_weights_of_other_names_are_taken_by_order_only_when_asked(tmp_path):
    encoder = ConvNet([8, 16])
    other = {
        f"net.{i}.{name.rpartition('.')[2]}": x.clone() for i, (name, x) in enumerate(encoder.state_dict().items())
    }
    other |= {"top.weight": torch.zeros(10, 16), "top.bias": torch.zeros(10)}  # a classifier
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=r"none was loaded: .* is missing .*give encoder\.weights=\{path:.*match:order\}"
    ):
        start_from(ConvNet([8, 16]), tmp_path / "other.pt")
    filled = start_from(ConvNet([8, 16]), {"path": tmp_path / "other.pt", "match": "order"})
    assert same(filled, encoder)
    assert "matched by order: 12 of 12 tensors, left out: top.bias, top.weight" in filled.started_from
    with pytest.raises(ValueError, match="do not fit ConvNet"):
        start_from(ConvNet([8, 8]), {"path": tmp_path / "other.pt", "match": "order"})
    with pytest.raises(ValueError, match="no setting 'views': it has path, which, view, match"):
        start_from(ConvNet([8, 16]), {"path": tmp_path / "other.pt", "views": 1})


def test_the_online_and_the_teachers_weights_are_chosen_by_name(tmp_path):
    online, teacher, second = (ConvNet([8, 16]) for _ in range(3))
    state = {f"teacher.towers.tower.encoder.{name}": x for name, x in teacher.state_dict().items()}
    state |= {f"towers.tower.encoder.{name}": x for name, x in online.state_dict().items()}
    about = {"format": FORMAT, "towers": ["towers.tower"], "teacher": True, "evaluated": "teacher", "objective": "dino"}
    torch.save({"state_dict": state, "ssl_mi": about}, tmp_path / "run.ckpt")
    for which, expected in ((None, teacher), ("teacher", teacher), ("online", online)):
        filled = start_from(ConvNet([8, 16]), {"path": tmp_path / "run.ckpt", "which": which})
        assert same(filled, expected)
        assert f"({which or 'teacher'})" in filled.started_from
    state = {
        f"towers.towers.{v}.encoder.{name}": x
        for v, e in enumerate((online, second))
        for name, x in e.state_dict().items()
    }
    about |= {"towers": ["towers.towers.0", "towers.towers.1"], "teacher": False}
    torch.save({"state_dict": state, "ssl_mi": about}, tmp_path / "pairs.ckpt")
    with pytest.raises(ValueError, match="'dino' has no teacher: give which=online"):
        start_from(ConvNet([8, 16]), {"path": tmp_path / "pairs.ckpt", "which": "teacher"})
    towers = Independent([Tower(ConvNet([8, 16])), Tower(ConvNet([8, 16]))], tmp_path / "pairs.ckpt")
    assert same(towers.tower_of(0).encoder, online)
    assert same(towers.tower_of(1).encoder, second)
    with pytest.raises(ValueError, match=r"towers\.weights has 1 entries for 2 towers"):
        Independent([Tower(ConvNet([8, 16])), Tower(ConvNet([8, 16]))], [None])
