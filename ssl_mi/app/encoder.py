"""A trained encoder on its own: `ssl_mi.load` gives it from a run or a checkpoint, with the preprocessing it needs.

encoder = ssl_mi.load("runs/simclr_cifar/2026-01-01_12-00-00-000")
features = encoder.encode("photos")       features.h [n, d], features.files, features.labels
h = encoder(encoder.transform(images))    in a loop of one's own
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ssl_mi.app.features import Features, joined
from ssl_mi.app.inputs import Input, input_of
from ssl_mi.data import Augmentation, View
from ssl_mi.data.images.decoding import Decoder
from ssl_mi.data.images.folder import UnreadableImage, decode, list_images
from ssl_mi.data.images.image_arrays import as_batch

_BATCH_PIXELS = 2**21  # of images at once, by default: 2048 of 32 x 32, 41 of 224 x 224


class _Part(NamedTuple):
    """Some images, normalised `[n, c, size, size]`, with what is known of them."""

    x: Tensor
    files: tuple[str, ...] = ()
    labels: Tensor | None = None
    unreadable: tuple[tuple[str, str], ...] = ()


class LoadedEncoder(nn.Module):
    """An encoder in eval mode, with the preprocessing that it was trained with. `load` makes it.

    `encoder(x)` maps a normalised batch `[n, c, size, size]`, as `transform` gives it, to h `[n, out_dim]`. It is an
    `nn.Module` like any other: it can be moved, fine-tuned, and put into an `nn.Sequential`.

    Args:
        encoder: Normalised images to h, with an int `out_dim`.
        projector: h to z; None where there is none.
        preprocessing: "size", "mean", "std", "views" and perhaps "decoder", see `ImageModule.preprocessing`; None where
            the encoder takes no images.
        class_names: Of the data that it was trained on.
        view: The view that it is for.
        provenance: Where it is from.

    Attributes:
        out_dim: Width of h.
        size: Side of an image, in pixels.
        mean, std: Per channel, of images in [0, 1].
        class_names: Of the data that it was trained on; empty without labels.
        provenance: Where it is from, and which of several weights these are: plain values by name.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        class_names: Sequence[str] = (),
        view: int = 0,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector
        self.preprocessing = None if preprocessing is None else dict(preprocessing)
        self.class_names, self.view = tuple(class_names), view
        self.provenance = dict(provenance or {})
        self.eval()

    @property
    def out_dim(self) -> int:
        width: Any = self.encoder.out_dim
        return width

    @property
    def size(self) -> int:
        return int(self._images()["size"])

    @property
    def mean(self) -> tuple[float, ...]:
        return tuple(self._images()["mean"])

    @property
    def std(self) -> tuple[float, ...]:
        return tuple(self._images()["std"])

    @property
    def takes_images(self) -> bool:
        """Whether the view of this encoder is an image."""
        how = self.preprocessing
        return how is not None and how["views"][self._shown()] is not None

    def input(self) -> Input:
        """How samples that are no images reach the encoder.

        Raises:
            ValueError: If the checkpoint does not say.
        """
        found = input_of(self.preprocessing, self.view)
        if found is None:
            raise ValueError(
                f"the encoder of view {self.view} takes no images, and its checkpoint does not say what else: give it "
                "what it was trained on, encoder(x)"
            )
        return found

    def example(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples at random, as the encoder takes them: for comparing two forms of it."""
        if not self.takes_images:
            return self.input().example(n, generator)
        return torch.randn(n, len(self.mean), self.size, self.size, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images `[n, c, size, size]` -> h `[n, out_dim]`."""
        return self.encoder(x)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images `[n, c, size, size]` -> (h, z).

        Raises:
            ValueError: If there is no projector.
        """
        if self.projector is None:
            raise ValueError("this encoder has no projector, so no z: its h is all there is")
        h = self.encoder(x)
        return h, self.projector(h)

    def transform(self, images: Any) -> Tensor:
        """Images as the encoder takes them: the shorter side resized to `size`, the centre kept, normalised.

        An encoder of rows `[n, d]`, of windows `[n, channels, steps]` or of sentences (a list of strings) takes those:
        numbers are standardised as in training, sentences become tokens.

        A run that reads images of many sizes from files rounds them to 8 bits after resizing; here nothing is rounded.

        Args:
            images: uint8, or floats in [0, 1], as a tensor or array: [n, c, h, w], [n, h, w, c], or one image without
                n; a PIL image, or a sequence of PIL images of any sizes.

        Returns:
            float32 `[n, c, size, size]`, on the device of the images.

        Raises:
            ValueError: On images of another shape, type or range, or an encoder that takes no images.
        """
        if not self.takes_images:
            return self.input().transform(images)
        clean = self._clean()
        if isinstance(images, Image.Image):
            return self.transform(self._pixels(images))
        if isinstance(images, Tensor | np.ndarray):
            batch = _numbers(images)
            batch = batch[None] if batch.ndim == 3 else batch
            return clean(as_batch(batch, len(self.mean), "transform"))
        one = (Image.Image, Tensor, np.ndarray)
        if isinstance(images, Sequence) and images and all(isinstance(image, one) for image in images):
            if several := [image for image in images if not isinstance(image, Image.Image) and image.ndim != 3]:
                raise ValueError(f"transform: of a list each is one image, [c, h, w], got {list(several[0].shape)}")
            return torch.cat([self.transform(image) for image in images])
        raise ValueError(
            f"transform takes a tensor, an array, a PIL image or a list of images, not {type(images).__name__}; "
            "encode takes files and folders too"
        )

    def _pixels(self, image: Image.Image) -> np.ndarray:
        """uint8 `[h, w, c]` of a PIL image; of more than 8 bits it would be cut off, not scaled."""
        if image.mode.startswith(("I", "F")):
            raise ValueError(
                f"a PIL image of mode {image.mode} has more than 8 bits: give its file, or an array scaled to [0, 1]"
            )
        array = np.array(image.convert("RGB" if len(self.mean) == 3 else "L"))
        return array.reshape(image.height, image.width, -1)

    def encode(self, images: Any, batch_size: int | None = None, z: bool = False) -> Features:
        """Encode images, whatever they come as, on the device of the encoder, in eval mode.

        Args:
            images: What `transform` takes; a folder of images, with or without a folder per class; a file or a
                sequence of files; or a `DataLoader` of batches: images that `transform` takes, alone or first in a
                tuple whose second is labels, or a mapping with "image" and perhaps "label".
            batch_size: Images at once; None: about two million pixels. A loader has its own.
            z: Give the projector's embeddings too.

        Returns:
            The features in the order of the images. A file that cannot be decoded is left out and named in
            `unreadable`.

        Raises:
            ValueError: On images of no kind that is listed, and where no image can be encoded.
            FileNotFoundError: If a folder is not there or holds no images.
        """
        _check_batch_size(batch_size)
        paths, labels, names = self._files(images)
        if paths is None:
            found = list(self._encoded(self._parts(images, batch_size), z))
        else:
            found = list(self.encode_files(paths, batch_size, z, labels))
        if not found or not sum(len(some.h) for some in found):
            unreadable = [reason for some in found for _, reason in some.unreadable]
            raise ValueError(f"there is no image to encode{': ' + unreadable[0] if unreadable else ''}")
        return joined(found, names)

    def encode_files(
        self, paths: Sequence[str], batch_size: int | None = None, z: bool = False, labels: Tensor | None = None
    ) -> Iterator[Features]:
        """`encode` for files, a batch at a time: for progress, and for more features than memory holds.

        Args:
            paths: Image files.
            batch_size: Files at once.
            z: Give the projector's embeddings too.
            labels: int64, one per file.

        Yields:
            The features of the next `batch_size` files.
        """
        _check_batch_size(batch_size)
        step = batch_size or self.batch_size

        def parts() -> Iterator[_Part]:
            for start in range(0, len(paths), step):
                yield self._read(paths[start : start + step], None if labels is None else labels[start : start + step])

        return self._encoded(parts(), z)

    # Images

    def _images(self) -> dict[str, Any]:
        if self.preprocessing is None or not self.takes_images:
            known = input_of(self.preprocessing, self.view)
            words = "give it what it was trained on, encoder(x)" if known is None else f"it takes {known.describe()}"
            raise ValueError(f"the encoder of view {self.view} takes no images, it has no size, mean and std; {words}")
        return self.preprocessing

    def _shown(self) -> int:
        views = (self.preprocessing or {}).get("views", ())
        return min(self.view, len(views) - 1)

    def augmentation(self) -> Augmentation:
        """The view of this encoder without anything drawn: `clean_views(images)[-1]` is what `transform` gives."""
        how = self._images()
        ops = [[_op(name) for name in (names or ())] for names in how["views"][: self._shown() + 1]]
        return Augmentation([View(some) for some in ops], how["size"], how["mean"], how["std"])

    def _clean(self) -> Callable[[Tensor], Tensor]:
        augmentation = self.augmentation()
        return lambda images: augmentation.clean_views(images)[-1]

    @property
    def batch_size(self) -> int:
        """Images that are encoded at once unless a number is given."""
        return max(8, min(512, _BATCH_PIXELS // self.size**2)) if self.takes_images else 512

    def _files(self, images: Any) -> tuple[list[str] | None, Tensor | None, tuple[str, ...]]:
        """(files, labels, class names) of images that are files; files is None for others."""
        if not self.takes_images:
            if isinstance(images, str | Path):
                raise ValueError(f"the encoder takes no images: give what is in {images}; {self.input().describe()}")
            return None, None, ()
        if isinstance(images, str | Path):
            where = Path(images).expanduser()
            if where.is_file():
                return [str(where)], None, ()
            return files_of(where, self.class_names)
        if isinstance(images, np.ndarray) and images.dtype.kind in "OU" and images.ndim == 1:
            images = images.tolist()
        if isinstance(images, Sequence) and images and all(isinstance(path, str | Path) for path in images):
            return [str(path) for path in images], None, ()
        return None, None, ()

    def _read(self, paths: Sequence[str], labels: Tensor | None) -> _Part:
        from concurrent.futures import ThreadPoolExecutor

        decoder = Decoder(**(self._images().get("decoder") or {"channels": len(self.mean)}))

        def one(path: str) -> Tensor | str:
            try:
                return self.transform(torch.from_numpy(decode(path, decoder).transpose(2, 0, 1).copy()))
            except UnreadableImage as error:
                return error.why or str(error)

        with ThreadPoolExecutor(min(8, len(paths))) as pool:
            images = list(pool.map(one, paths))
        good = [i for i, image in enumerate(images) if isinstance(image, Tensor)]
        pixels = [image for image in images if isinstance(image, Tensor)]
        return _Part(
            torch.cat(pixels) if pixels else torch.empty(0, len(self.mean), self.size, self.size),
            tuple(paths[i] for i in good),
            None if labels is None else labels[good],
            tuple((path, image) for path, image in zip(paths, images, strict=True) if isinstance(image, str)),
        )

    def _parts(self, images: Any, batch_size: int | None) -> Iterator[_Part]:
        """Images that are no files, some at a time."""
        if isinstance(images, Image.Image):
            images = [images]
        if isinstance(images, Tensor | np.ndarray) and images.ndim == 3 and self.takes_images:
            images = images[None]
        if isinstance(images, Tensor | np.ndarray | Sequence):
            step = batch_size or self.batch_size
            for start in range(0, len(images), step):
                yield _Part(self.transform(images[start : start + step]))
        elif isinstance(images, Iterable) and not isinstance(images, Mapping):
            for batch in images:
                some, labels = _samples_and_labels(batch, self.takes_images)
                x = self.transform(some)
                yield _Part(x, labels=_checked_labels(labels, len(x)))
        else:
            self.transform(images)  # which says what it takes

    @torch.no_grad()
    def _encoded(self, parts: Iterable[_Part], z: bool) -> Iterator[Features]:
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        modes = [(module, module.training) for module in self.modules()]
        try:
            self.eval()
            for part in parts:
                if not len(part.x):
                    yield Features(torch.empty(0, self.out_dim), unreadable=part.unreadable)
                    continue
                h, embedded = self.embed(part.x.to(device)) if z else (self(part.x.to(device)), None)
                cpu = None if embedded is None else embedded.float().cpu()
                labels = None if part.labels is None else part.labels.cpu()
                yield Features(h.float().cpu(), cpu, part.files, labels, (), part.unreadable)
        finally:
            for module, training in modes:
                module.training = training


def _samples_and_labels(batch: Any, images: bool) -> tuple[Any, Any]:
    """The samples of a loader's batch, and what stands beside them as labels; None where nothing does."""
    if isinstance(batch, Mapping):
        if "image" not in batch:
            raise ValueError(f"the loader's batches have no 'image', but {', '.join(map(str, batch)) or 'nothing'}")
        return batch["image"], batch.get("label")
    if not isinstance(batch, list | tuple) or all(_is_one(entry, images) for entry in batch):
        return batch, None
    return batch[0], batch[1] if len(batch) > 1 else None


def _is_one(entry: Any, image: bool) -> bool:
    """Whether it is a sample alone: an image, or a sentence."""
    if not image:
        return isinstance(entry, str)
    return isinstance(entry, Image.Image) or (isinstance(entry, Tensor | np.ndarray) and entry.ndim == 3)


def _checked_labels(labels: Any, n: int) -> Tensor | None:
    """Labels of n images as a tensor with a row each; ValueError for what is none, rather than images without them."""
    if labels is None:
        return None
    remedy = "give a number an image, or images alone: encode(images for images, _ in loader)"
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        kind = "strings" if isinstance(labels, list | tuple) and isinstance(labels[0], str) else type(labels).__name__
        raise ValueError(f"the loader's labels are {kind}: {remedy}") from None
    if found.ndim not in (1, 2) or len(found) != n:
        raise ValueError(f"the loader's second entry is {list(found.shape)} beside {n} images, no labels: {remedy}")
    return found


def _numbers(images: Tensor | np.ndarray) -> Tensor:
    """Images as a tensor; ValueError for arrays that are none, or that would lose something."""
    if isinstance(images, np.ma.MaskedArray):
        raise ValueError("transform: a masked array's mask would be lost: fill the masked pixels")
    try:
        batch = torch.as_tensor(images)
    except TypeError as error:
        raise ValueError(f"transform: images must be numbers, got an array of {images.dtype}") from error
    if batch.ndim >= 2 and not all(batch.shape[1:]):
        raise ValueError(f"transform: images without pixels, {list(batch.shape)}")
    return batch


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size={batch_size!r}: use a positive number of images, or None")


def files_of(folder: Path, known: Sequence[str] = ()) -> tuple[list[str], Tensor | None, tuple[str, ...]]:
    """The images of a folder, with labels where it has a folder per class.

    Args:
        folder: Images alone, or a folder per class.
        known: Class names whose numbers the labels keep, where they have all classes of the folder.

    Returns:
        (files, labels: int64 [n] or None, class names).

    Raises:
        FileNotFoundError: If it is not there or holds no images.
        ValueError: If it holds splits: train, test.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder.absolute()} is neither a folder nor an image file")
    paths, class_of, names = list_images(folder)
    if not names:
        return paths, None, ()
    if set(names) <= {"train", "val", "test"}:
        raise ValueError(f"{folder} holds the splits {', '.join(names)}, not classes: name one, {folder / names[0]}")
    kept = tuple(known) if set(names) <= set(known) else names
    return paths, torch.tensor([kept.index(names[c]) for c in class_of]), kept


def _op(name: str) -> Any:
    """An op that selects what a view shows, by its name in a checkpoint."""
    from ssl_mi.data.images import colour

    made = getattr(colour, name, None)
    if not (isinstance(made, type) and getattr(made, "selects", False)):
        raise ValueError(f"the checkpoint names the view op '{name}', which is none of ssl_mi.data's")
    return made()
