"""The model card beside an exported encoder: what it is, how to use it, what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_mi.app.encoder import LoadedEncoder

BUILD = ("from build import load  # build.py, in this folder", "net = load()")
USE = {
    "torchscript": ("import torch", "net = torch.jit.load('encoder.ts')"),
    "onnx": ("import onnxruntime", "net = onnxruntime.InferenceSession('encoder.onnx')"),
}
ALONE = (
    "from safetensors.torch import load_file",
    "net.load_state_dict(load_file('weights.safetensors'))  # net: built by ssl_mi, which alone has this network",
)


def card(encoder: LoadedEncoder, format: str, difference: float, differs: str, buildable: bool) -> str:
    """The card in Markdown.

    Args:
        encoder: What was exported.
        format: Its format.
        difference: Of h, exported and not, over the largest |h|.
        differs: How the network differs from a stock one.
        buildable: Whether a build.py is beside it.
    """
    found = encoder.provenance
    use = USE.get(format) or (BUILD if buildable else ALONE)
    lines = [
        f"# {found.get('name') or 'Encoder'}: {type(encoder.encoder).__name__}, {encoder.out_dim} dimensions",
        "",
        f"Trained without labels by ssl_mi with the objective `{found.get('objective')}`, {found.get('epoch')} epochs, "
        f"seed {found.get('seed')}. These are the {found.get('which')} weights, of view {encoder.view}.",
        "",
        *("## Use", "", "```python", *use, "```", ""),
        f"Input: {_input(encoder)}. Output: h, float32 [n, {encoder.out_dim}].",
        "",
        *([f"The network differs from the library's own: {differs}.", ""] if differs else []),
        f"Parity: read back from these files, h differs by at most {difference:.1e} of the largest |h|.",
        "",
        *_data(encoder),
        *_figures(encoder),
        *_recipe(found),
        *("## Licence", "", "To be filled in: the licence of the weights, which may depend on that of the data.", ""),
    ]
    return "\n".join(lines)


def _input(encoder: LoadedEncoder) -> str:
    if not encoder.takes_images:
        return encoder.input().describe()
    return (
        f"float32 [n, {len(encoder.mean)}, {encoder.size}, {encoder.size}]: images in [0, 1], the shorter side "
        f"resized to {encoder.size} (bilinear, antialiased), the centre cropped, then (x - mean) / std with mean "
        f"{_numbers(encoder.mean)} and std {_numbers(encoder.std)}"
    )


def _data(encoder: LoadedEncoder) -> list[str]:
    kept = {
        key: value for key, value in encoder.provenance.get("data", {}).items() if key in ("name", "images", "shape")
    }
    lines = ["## Data", "", *(f"- {key}: {value}" for key, value in kept.items())]
    if names := encoder.class_names:
        lines.append(f"- classes, used by evaluation only: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}")
    return [*lines, ""]


def _recipe(found: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in found.get("versions", {}).items())
    lines = [f"- command: `{found.get('command')}`", f"- commit: {found.get('commit')}", f"- versions: {versions}"]
    return ["## Recipe", "", *lines, ""]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _figures(encoder: LoadedEncoder) -> list[str]:
    """What the run measured at its end, where its report is beside the checkpoint."""
    from ssl_mi.report.rows import last_epoch

    path = Path(encoder.provenance["checkpoint"]).parent.parent / "report.json"
    lines = ["## Figures", ""]
    if not path.is_file():
        return [*lines, "Not measured: there is no report beside the checkpoint.", ""]
    rows = [row for row in json.loads(path.read_text())["rows"] if row["encoder"] == "trained"]
    rows = [row for row in rows if row["epoch"] == last_epoch(rows)]
    rows = [row for row in rows if row["split"] == "test"] or rows
    if encoder.provenance["which"] == "teacher":
        lines += ["Of the online encoder, which a run evaluates; these weights are the teacher's.", ""]
    lines += ["| quantity | split | value | 95% interval | n |", "| --- | --- | --- | --- | --- |"]
    return [*lines, *map(_line, rows), ""] if rows else ["## Figures", "", "The run measured nothing.", ""]


def _line(row: Mapping[str, Any]) -> str:
    unit = " (nats)" if row["metric"].endswith("_nats") else ""
    interval = "" if row["low"] is None else f"{row['low']:.3f} .. {row['high']:.3f}"
    value = "" if row["value"] is None else f"{row['value']:.3f}"
    quantity = row["quantity"].replace("|", "\\|")
    return f"| {quantity}{unit} | {row['split']} | {value} | {interval} | {row['n']} |"
