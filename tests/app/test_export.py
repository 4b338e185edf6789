"""An exported encoder gives the same h where there is no ssl_mi."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.app.export import FORMATS, export
from ssl_mi.data.pairs.tokens import Tokenizer
from ssl_mi.networks import ConvNet, ConvNet1d, MLPEncoder, ResNet, TableMLP, TextEncoder, TorchvisionEncoder, ViT

PREPROCESSING = {"size": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "views": [[]]}
NETWORKS = {
    "imagenet stem": lambda: ResNet(18, "imagenet"),
    "cifar stem": lambda: ResNet(18, "cifar"),
    "vit": lambda: ViT(32, 8, 48, 2, 3),
    "vit, mean": lambda: ViT(32, 8, 48, 2, 3, pool="mean"),
    "convnet": lambda: ConvNet((8, 16), stem_stride=2),
    "torchvision": lambda: TorchvisionEncoder("mobilenet_v3_small", image_size=32),
}


def loaded(network):
    """An encoder whose batch norms have statistics of their own, so that forgetting them shows."""
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    where = {"checkpoint": "runs/a/checkpoints/last.ckpt", "which": "online", "objective": "simclr"}
    return LoadedEncoder(network, None, PREPROCESSING, ("a", "b"), provenance=where)


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{missing} not installed")


def elsewhere(folder, *lines):
    """Run lines of Python in the folder, in a process that cannot import ssl_mi."""
    program = "\n".join(["import sys; sys.modules['ssl_mi'] = None", "sys.path.insert(0, '.')", "import torch", *lines])
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


LOAD = {
    "torchvision": ["from build import load; net = load()"],
    "timm": ["from build import load; net = load()"],
    "safetensors": ["from build import load; net = load()"],
    "torchscript": ["net = torch.jit.load('encoder.ts')"],
    "onnx": [
        "from onnx.reference import ReferenceEvaluator",
        "net = lambda x: torch.from_numpy(ReferenceEvaluator('encoder.onnx').run(None, {'images': x.numpy()})[0])",
    ],
}


@pytest.mark.parametrize("format", [pytest.param(f, marks=needs(*FORMATS[f].packages)) for f in FORMATS])
def test_a_process_without_ssl_mi_gets_the_same_h(format, tmp_path):
    encoder = loaded(ResNet(18, "imagenet"))
    export(encoder, format, tmp_path / "out")
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.save({"x": x, "h": encoder(x)}, tmp_path / "out" / "expected.pt")
    elsewhere(
        tmp_path / "out",
        *LOAD[format],
        "known = torch.load('expected.pt', weights_only=True)",
        "with torch.no_grad(): h = net(known['x'])",
        "assert torch.allclose(h, known['h'], rtol=1e-3, atol=1e-4 * known['h'].abs().max().item())",
    )


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "vit, mean"])
def test_torchvision_or_torch_builds_every_network_it_can_and_loads_strictly(name, tmp_path):
    done = export(loaded(NETWORKS[name]()), "torchvision", tmp_path / "out")
    assert done.difference < 1e-5
    assert (done.differs == "") == (name in ("imagenet stem", "vit"))  # what is stock differs in nothing


def test_torchvisions_own_resnet_and_vit_load_the_weights_strictly(tmp_path):
    import torchvision

    export(loaded(ResNet(18, "imagenet")), "torchvision", tmp_path / "a")
    net = torchvision.models.resnet18(num_classes=512)
    net.load_state_dict(torch.load(tmp_path / "a" / "weights.pt", weights_only=True), strict=True)
    export(loaded(ViT(32, 8, 48, 2, 3)), "torchvision", tmp_path / "b")
    vit = torchvision.models.VisionTransformer(32, 8, 2, 3, 48, mlp_dim=192, num_classes=48)
    vit.load_state_dict(torch.load(tmp_path / "b" / "weights.pt", weights_only=True), strict=True)


@needs("timm")
@pytest.mark.parametrize("name", ["imagenet stem", "cifar stem", "vit", "vit, mean"])
def test_timm_builds_resnets_and_vits(name, tmp_path):
    assert export(loaded(NETWORKS[name]()), "timm", tmp_path / "out").difference < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_torchscript_takes_any_number_of_images(name, tmp_path):
    export(loaded(NETWORKS[name]()), "torchscript", tmp_path / "out")
    net = torch.jit.load(str(tmp_path / "out" / "encoder.ts"))
    assert len(net(torch.zeros(7, 3, 32, 32))) == 7


def test_what_a_library_does_not_have_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="no form in torchvision: use --format safetensors, torchscript or onnx"):
        export(loaded(MLPEncoder()), "torchvision", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_refused_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "timm", FORMATS["timm"]._replace(packages=("no_such_package",)))
    with pytest.raises(ValueError, match=r"needs no_such_package: pip install no_such_package.*ssl_mi\[export\]"):
        export(loaded(ConvNet()), "timm", tmp_path / "out")


def test_an_export_that_gives_another_h_is_refused(tmp_path, monkeypatch):
    def wrong(encoder, folder):
        return lambda x: encoder(x) + 0.01

    monkeypatch.setitem(FORMATS, "torchscript", FORMATS["torchscript"]._replace(write=wrong))
    with pytest.raises(ValueError, match="gives another h than the encoder"):
        export(loaded(ConvNet()), "torchscript", tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        export(loaded(ConvNet()), "torchscript", tmp_path)


def test_the_card_says_how_to_use_it_and_what_is_not_known(tmp_path):
    export(loaded(ResNet(18, "cifar")), "torchvision", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    for said in ("from build import load", "std 0.25", "conv1 is 3x3", "Not measured", "## Licence", "`simclr`"):
        assert said in text


SCALING = {"mean": [1.0, -2.0, 0.5], "std": [2.0, 0.5, 1.0]}
TOKENIZER = Tokenizer.trained(["a red disc", "a blue square"] * 9, 60)
OTHERS = {
    "rows": (lambda: TableMLP(3, [8, 4]), {"columns": [SCALING]}, torch.randn(9, 3)),
    "windows": (lambda: ConvNet1d(3, [8, 4]), {"channels": SCALING, "window": 32}, torch.randn(9, 3, 32)),
    "sentences": (
        lambda: TextEncoder(60, 8, 4),
        {"tokenizer": TOKENIZER.to_json(), "length": 6},
        ["a red disc", "a blue square"],
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_encoders_of_rows_windows_and_sentences_are_fed_and_exported(kind, tmp_path):
    make, how, samples = OTHERS[kind]
    where = {"checkpoint": "runs/a/checkpoints/last.ckpt", "which": "online", "objective": "clip"}
    encoder = LoadedEncoder(make(), None, {**how, "views": [None]}, provenance=where)
    x = encoder.transform(samples)
    if kind != "sentences":  # (1 - 1) / 2, (-1.5 + 2) / .5, (.5 - .5) / 1 in each place
        point = torch.tensor([1.0, -1.5, 0.5]).reshape(1, 3, *[1] * (samples.ndim - 2)).expand_as(samples)
        assert encoder.transform(point)[0].reshape(3, -1)[:, 0].tolist() == [0.0, 1.0, 0.0]
    assert torch.equal(encoder.encode(samples).h, encoder(x).detach())
    done = export(encoder, "torchscript", tmp_path / "out")
    assert done.difference < 1e-6
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(str(tmp_path / "out" / "encoder.ts"))(x), encoder(x), atol=1e-6)
    assert f"[n, {x.shape[1]}" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ValueError, match="takes no images"):
        encoder.encode("photos")
    with pytest.raises(ValueError, match=f"{kind}.* are taken|arrays of numbers"):
        encoder.transform(torch.zeros(2, 5, 5, 5) if kind != "sentences" else [1, 2])


def test_an_export_that_fails_leaves_no_folder(tmp_path, monkeypatch):
    def broken(encoder, folder):
        (folder / "half.ts").write_text("half")
        raise RuntimeError("no such operator\nat line 3")

    monkeypatch.setitem(FORMATS, "torchscript", FORMATS["torchscript"]._replace(write=broken))
    with pytest.raises(ValueError, match=r"--format torchscript cannot write ConvNet: no such operator; use"):
        export(loaded(NETWORKS["convnet"]()), "torchscript", tmp_path / "out")
    assert not (tmp_path / "out").exists()
