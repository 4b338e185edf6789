"""Folders of images as training, validation and test sets.

Layouts, told apart by what is there:

    root/train/<class>/*.jpg, root/test/<class>/*.jpg and perhaps root/val/<class>/*.jpg
    root/<class>/*.jpg          a seeded test split is set aside
    root/train/*.jpg            or root/*.jpg: no classes, so no labels
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
import torch

from ssl_mi.data.images.decoding import EXTENSIONS, Decoder, UnreadableImage, decode, shown
from ssl_mi.data.images.files import ImageFiles, Survey, few, survey
from ssl_mi.data.images.index import Listing, indexed
from ssl_mi.data.sets import ImageSet, Sets, stratified_order

__all__ = ["ImageFiles", "ImageFolder", "UnreadableImage", "decode", "list_images"]

log = logging.getLogger(__name__)

_NO_EXTENSION = "without extension"


class ImageFolder:
    """A folder of images as training, validation and test sets (layouts: see the module).

    Args:
        root: The folder.
        test: Name of the folder beside `train` that holds the test images.
        test_fraction: Set aside of the training images, seeded, where there is no such folder.
        in_memory, memory_gb, on_error: See `ImageFiles`; `memory_gb` holds for each split.
        seed: Decides which images are set aside.
        val: Name of the folder beside `train` that holds the validation images. Where there is none, they are held out
            of the training images.
        channels, levels, max_megapixels: See `decoding.Decoder`.

    Raises:
        FileNotFoundError: A folder that is missing or holds no images.
        ValueError: A folder that cannot be read as classes.
    """

    def __init__(
        self,
        root: str,
        test: str = "test",
        test_fraction: float = 0.1,
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "skip",
        seed: int = 0,
        val: str = "val",
        channels: int = 3,
        levels: tuple[float, float] | None = None,
        max_megapixels: float = 100.0,
    ) -> None:
        if in_memory not in (True, False, "auto"):
            raise ValueError(f"data.sets.in_memory={in_memory} is none of auto, true, false")
        if on_error not in ("error", "skip"):
            raise ValueError(f"data.sets.on_error={on_error} is neither 'error' nor 'skip'")
        if not 0 < test_fraction < 1:
            raise ValueError(f"data.sets.test_fraction={test_fraction} must lie between 0 and 1")
        self.root, self.test, self.test_fraction, self.seed = Path(root).expanduser(), test, test_fraction, seed
        self.in_memory, self.memory_gb, self.on_error = in_memory, memory_gb, on_error
        self.val = val
        self.decoder = Decoder(channels, levels, None, max_megapixels)
        self._listed: dict[Path, Listing] = {}
        self._odd: list[str] = []
        self._survey: Survey | None = None

    def load(self) -> Sets:
        """Lists the files, and looks at some of them."""
        for note in self.survey().notes:
            log.warning("%s: %s", shown(self.root), note)
        sets = self._sets()
        _say_odd(self._odd)
        return sets

    def _sets(self) -> Sets:
        train_folder = self._train_folder()
        train = self._set(train_folder, None)
        if train_folder == self.root:
            return self._split_off_test(train)
        self._say_unused()
        val = self._held_out(self.val, train)
        test = self._held_out(self.test, train)
        if test is None:
            return self._split_off_test(train)._replace(val=val)
        return Sets(train, test, val=val)

    def survey(self) -> Survey:
        """What a sample of the training images is like.

        Raises:
            FileNotFoundError: A folder that is missing or holds no images.
        """
        if self._survey is None:
            self._survey = survey(self._list(self._train_folder())[0], self.decoder)
            self.decoder = replace(self.decoder, bits=self._survey.bits)
        return self._survey

    def _train_folder(self) -> Path:
        if not self.root.is_dir():
            what = "is not a folder" if self.root.exists() else "does not exist"
            raise FileNotFoundError(
                f"data.root={shown(self.root)}: {shown(self.root.absolute())} {what}. It should hold train/<class>/ "
                "and test/<class>/ folders of images, or <class>/ folders alone, or images alone"
            )
        if (self.root / "train").is_dir():
            return self.root / "train"
        folders = {e.name for e in os.scandir(self.root) if _is_folder(e) and not e.name.startswith(".")}
        if folders and folders <= {self.val, self.test}:
            raise ValueError(
                f"{shown(self.root)} holds {' and '.join(sorted(folders))} but no folder 'train': name the training "
                "images' folder train, or point data.root at one folder of classes"
            )
        return self.root

    def _list(self, folder: Path) -> Listing:
        def make(seen: list[str]) -> Listing:
            odd: list[str] = []
            files, class_of, names = list_images(folder, odd, seen)
            return Listing(files, np.array(class_of, np.int64), names, tuple(odd))

        if folder not in self._listed:
            self._listed[folder] = indexed(folder, make)
            self._odd += self._listed[folder].odd
        return self._listed[folder]

    def _say_unused(self) -> None:
        """Name what lies beside `train` and is not used."""
        used = {"train", self.val, self.test}
        beside = [e for e in os.scandir(self.root) if e.name not in used and not e.name.startswith(".")]
        found = sorted(
            shown(e.name) for e in beside if _is_folder(e) or os.path.splitext(e.name)[1].lower() in EXTENSIONS
        )
        if found:
            log.warning("%s: not used, beside train: %s (data.sets.val and data.sets.test name the folders that are)",
                        shown(self.root), few(found))  # fmt: skip

    def _held_out(self, name: str, train: ImageSet) -> ImageSet | None:
        """The images of a folder beside `train`; None where there is none."""
        folder = self.root / name
        if not folder.is_dir():
            return None
        found = self._set(folder, train.class_names or None)
        if train.labels is not None and found.labels is None:
            key = "val" if name == self.val else "test"
            raise ValueError(
                f"{shown(self.root / 'train')} has class folders but {shown(folder)} has images alone; sort those into "
                f"the same class folders, or name another folder with data.sets.{key}="
            )
        return found

    def _set(self, folder: Path, known: tuple[str, ...] | None) -> ImageSet:
        paths, class_of, names, _ = self._list(folder)
        files = ImageFiles(paths, self.in_memory, self.memory_gb, self.on_error, self.decoder)
        name = shown(self.root.name)
        if not names:
            return ImageSet(name, files)
        known = known or names
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"{shown(folder)} has the class folder '{unknown[0]}', which the training images do not; their "
                f"classes are {few(known)}"
            )
        place = torch.tensor([known.index(name) for name in names])
        return ImageSet(name, files, place[torch.from_numpy(class_of)], known)

    def _split_off_test(self, images: ImageSet) -> Sets:
        n = round(self.test_fraction * len(images))
        if not 0 < n < len(images):
            raise ValueError(
                f"{shown(self.root)} has no folder '{self.test}', and data.sets.test_fraction={self.test_fraction} of "
                f"its {len(images)} images leaves nothing to test or to train on; add images or change the fraction"
            )
        log.info("%s has no folder '%s': %d of its %d images are set aside for testing (seed %d)",
                 shown(self.root), self.test, n, len(images), self.seed)  # fmt: skip
        order = stratified_order(images.labels, len(images), [self.seed])
        return Sets(images.take(order[n:]), images.take(order[:n]))


def list_images(
    folder: Path, odd: list[str] | None = None, seen: list[str] | None = None
) -> tuple[list[str], list[int], tuple[str, ...]]:
    """(files, class of each, class names) of a folder of class folders; no names for a folder of images alone.

    Hidden files and folders are passed over; class folders may have folders inside, and links to folders are followed.
    What is called an image and is no regular file (a pipe, a device, a link to nothing), and links that lead in a
    circle, are passed over, and named in `odd` or, without it, in a warning. Folders that are looked into are put in
    `seen`.
    """
    seen = [] if seen is None else seen
    other: Counter[str] = Counter()
    if odd is None:
        found_odd: list[str] = []
        listed = list_images(folder, found_odd, seen)
        _say_odd(found_odd)
        return listed
    seen.append(str(folder.absolute()))
    entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    folders = [e for e in entries if _is_folder(e)]
    names = {e.name for e in folders}
    loose = _images((e for e in entries if e.name not in names), other, odd)
    inside = {_identity(folder)}
    found = {
        shown(e.name): list(_walk(e.path, inside, other, odd, seen)) for e in folders if _is_new(e.path, inside, odd)
    }
    if not loose and not any(found.values()):
        there = ", ".join(f"{count} {kind}" for kind, count in other.most_common(5)) or "no files at all"
        raise FileNotFoundError(
            f"{shown(folder.absolute())} holds no images: found {there}. Images are files ending in "
            f"{' '.join(EXTENSIONS)}, in one folder a class, or all in one place"
        )
    if loose and found:
        raise ValueError(
            f"{shown(folder)} holds {len(loose)} images ({shown(Path(loose[0]).name)}, ...) beside {len(found)} "
            f"folders ({next(iter(found))}, ...): put every image in a class folder, or all of them in one place"
        )
    if empty := [name for name, files in found.items() if not files]:
        raise ValueError(f"{shown(folder)}: the class folder '{empty[0]}' holds no images; remove it or fill it")
    if loose:
        return loose, [], ()
    class_of = [c for c, files in enumerate(found.values()) for _ in repeat(None, len(files))]
    return [path for files in found.values() for path in files], class_of, tuple(found)


def _say_odd(odd: list[str]) -> None:
    if odd:
        log.warning("passed over %d entries that are no regular files or lead in a circle: %s", len(odd), few(odd))


def _images(entries: Iterable[os.DirEntry[str]], other: Counter[str], odd: list[str]) -> list[str]:
    """The regular files that are called images; the kinds of the rest are counted, and what is neither named."""
    images = []
    for entry in entries:
        kind = os.path.splitext(entry.name)[1].lower()
        if kind not in EXTENSIONS:
            other[shown(kind) or _NO_EXTENSION] += 1
        elif _is_file(entry):
            images.append(entry.path)
        else:
            odd.append(shown(entry.path))
    return images


def _walk(
    folder: str, above: set[tuple[int, int]], other: Counter[str], odd: list[str], seen: list[str]
) -> Iterator[str]:
    """The images below a folder: its own files by name, then its folders by name."""
    seen.append(os.path.abspath(folder))
    entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    folders = [e for e in entries if _is_folder(e)]
    inner = {e.name for e in folders}
    yield from _images((e for e in entries if e.name not in inner), other, odd)
    here = above | {_identity(folder)}
    for entry in folders:
        if _is_new(entry.path, here, odd):
            yield from _walk(entry.path, here, other, odd, seen)


def _is_new(folder: str, above: set[tuple[int, int]], odd: list[str]) -> bool:
    """Whether a folder is none of those that it lies in: a link may lead back up."""
    if _identity(folder) not in above:
        return True
    odd.append(shown(folder))
    return False


def _identity(folder: str | Path) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
