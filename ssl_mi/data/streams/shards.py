"""What a shard holds: tar archives as WebDataset has them, and the shards of iterable Hugging Face sets.

In a tar archive the files of one sample stand side by side and have one name up to its first dot, which is the sample's
key: `n01/0007.jpg`, `n01/0007.cls`. What stands behind the dot names the field.
"""

from __future__ import annotations

import glob
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from ssl_mi.data.huggingface import column_of, opened, undecoded
from ssl_mi.data.images.decoding import EXTENSIONS
from ssl_mi.data.images.encoded import EncodedImage, encoded_bytes
from ssl_mi.data.images.files import few

AUTO = "auto"
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_KEY = re.compile(r"^((?:.*/)?[^./][^./]*)\.([^/]+)$")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7z", b"(\xb5/\xfd")
_LONGEST_LABEL = 256  # bytes
_BLOCK = 512  # bytes of a header, and of each of the two empty blocks at the end


class Sample(NamedTuple):
    """One sample of a shard, of which nothing but the label has been read.

    Attributes:
        key: Its name in the whole set, which keys the random draws.
        image: The image, encoded.
        label: An integer or a word; None without labels.
    """

    key: str
    image: EncodedImage
    label: int | str | None


class Scan(NamedTuple):
    """What a shard holds, found by going through it once.

    Attributes:
        size: Its samples, those left out not counted.
        labels: The different labels.
        left_out: What is wrong with samples that cannot be used, each with its key.
    """

    size: int
    labels: tuple[int | str, ...]
    left_out: tuple[str, ...]


class Shards(Protocol):
    """A set in shards, each of which is read from its beginning. Can be pickled, for worker processes.

    Attributes:
        name: What reports call the set.
        names: Of the shards.
        class_names: One per class where the set knows them; labels are then their numbers.
    """

    name: str
    names: Sequence[str]
    class_names: tuple[str, ...] | None

    def scan(self, shard: int) -> Scan:
        """What the shard number `shard` holds.

        Raises:
            ValueError: If it cannot be read; the message names the shard.
        """

    def stamp(self, shard: int) -> str:
        """Changes when the shard or what is read of it does; "" where that cannot be known."""

    def read(self, shard: int, first: int = 0, left_out: list[str] | None = None) -> Iterator[Sample]:
        """The samples of a shard in order, from the sample number `first` on; `left_out` takes what cannot be used."""


def expanded(spec: str | Sequence[str], key: str) -> list[str]:
    """The files that `a-{000..012}.tar`, a pattern `a-*.tar`, a folder or a list of these names.

    Args:
        spec: As it was written.
        key: Of the configuration, for messages.

    Raises:
        FileNotFoundError: If there are none, or some are missing.
        ValueError: On a name that is no file's, such as a URL, and on a file that is named twice.
    """
    found: list[str] = []
    for one in [spec] if isinstance(spec, str) else list(spec):
        if "://" in one or one.startswith("pipe:"):
            raise ValueError(f"{key}={one}: shards are files here; bring them to a disk first")
        path = Path(one).expanduser()
        if path.is_dir():
            found += sorted(str(p) for p in path.glob("*.tar"))
        elif any(sign in one for sign in "*?["):
            found += sorted(glob.glob(str(path)))
        else:
            found += _braces(str(path))
    if not found:
        raise FileNotFoundError(f"{key}={spec}: there are no such .tar files (from {Path.cwd()})")
    missing = [name for name in found if not os.path.isfile(name)]
    if missing:
        raise FileNotFoundError(f"{key}={spec}: {len(missing)} of {len(found)} shards are missing: {few(missing, 3)}")
    if doubled := sorted({name for name in found if found.count(name) > 1}):
        raise ValueError(f"{key}={spec}: {doubled[0]} is named twice")
    return found


def _braces(text: str) -> list[str]:
    """`a-{08..11}.tar` -> a-08.tar to a-11.tar; without braces the text itself."""
    match = _BRACES.search(text)
    if match is None:
        return [text]
    first, last = match[1], match[2]
    numbers = range(int(first), int(last) + 1)
    return [
        name for i in numbers for name in _braces(f"{text[: match.start()]}{i:0{len(first)}d}{text[match.end() :]}")
    ]


class _Member(NamedTuple):
    """A file inside an archive: where its bytes are."""

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise ValueError(f"the archive ends after {len(content)} of its {self.size} bytes")
        return content


class TarShards:
    """Tar archives as WebDataset has them, one a shard. A `Shards`.

    Args:
        paths: See `expanded`.
        image: The field of the image, such as jpg; auto for the one whose name is that of an image format.
        label: The field of the class, a text with a number or a word, such as cls; None without.
        key: Of the configuration, for messages.

    Raises:
        FileNotFoundError: If archives are missing.
        ValueError: On names that are no archives of one's own disk.
    """

    class_names: tuple[str, ...] | None = None

    def __init__(self, paths: str | Sequence[str], image: str = AUTO, label: str | None = "cls", key: str = "") -> None:
        self.names: Sequence[str] = expanded(paths, key)
        self.name = Path(self.names[0]).parent.name or "shards"
        self.image, self.label, self.key = image, label, key

    def stamp(self, shard: int) -> str:
        """The size and the time of the last change of the archive, and the fields."""
        found = os.stat(self.names[shard])
        return f"{found.st_size} {found.st_mtime_ns} {self.image} {self.label}"

    def scan(self, shard: int) -> Scan:
        """Goes through the headers of an archive, and reads the labels."""
        count, left_out = 0, list[str]()
        labels: set[int | str | None] = set()
        seen: set[str] = set()
        fields: dict[str, _Member] = {}
        archive = _Archive(self.names[shard])
        for stem, fields in self._groups(archive):
            why = self._wrong(stem, fields, seen)
            seen.add(stem)
            if why is not None:
                left_out.append(f"{stem} ({why})")
                continue
            count += 1
            labels.add(self._label(shard, stem, fields))
        if not count:
            of = f"the fields of {few(left_out, 1)}, are {few(sorted(fields))}" if left_out else "it holds no files"
            remedy = "name them by data.image and data.label (null: without)"
            raise ValueError(f"{self.names[shard]}: no sample can be used: {of}: {remedy}")
        if unread := archive.unread():
            left_out.append(unread)
        known = sorted((x for x in labels if x is not None), key=lambda x: (str(type(x)), x))
        return Scan(count, tuple(known), tuple(left_out))

    def read(self, shard: int, first: int = 0, left_out: list[str] | None = None) -> Iterator[Sample]:
        """The samples of an archive in order; of an image only its place is known until it is decoded."""
        stem, number = Path(self.names[shard]).stem, 0
        seen: set[str] = set()
        archive = _Archive(self.names[shard])
        for key, fields in self._groups(archive):
            why = self._wrong(key, fields, seen)
            seen.add(key)
            if why is not None:
                if left_out is not None:
                    left_out.append(f"{self.names[shard]}: {key} ({why})")
                continue
            if number >= first:
                member = fields[self._image_field(fields)]
                image = EncodedImage(f"{self.names[shard]}: {key}", member.read)
                yield Sample(f"{stem}/{key}", image, self._label(shard, key, fields))
            number += 1
        if left_out is not None and (unread := archive.unread()):
            left_out.append(f"{self.names[shard]}: {unread}")

    def _groups(self, archive: _Archive) -> Iterator[tuple[str, dict[str, _Member]]]:
        """The key and the fields of each sample of an archive, whole or not."""
        held = ""
        fields: dict[str, _Member] = {}
        for name, member in archive:
            match = _KEY.match(name)
            if match is None:
                continue
            stem, field = match[1], match[2].lower()
            if stem != held and fields:
                yield held, fields
                fields = {}
            held = stem
            fields[field] = member
        if fields:
            yield held, fields

    def _wrong(self, stem: str, fields: dict[str, _Member], seen: set[str]) -> str | None:
        """Why a sample cannot be used; None where it can."""
        if stem in seen:
            return "its key comes twice"
        images = self._images(fields)
        if len(images) != 1:
            return f"two images, {few(images)}: data.image names one" if images else "no image"
        if self.label is not None and self.label not in fields:
            return f"no {self.label}"
        cut = next((field for field, member in fields.items() if member.size < 0), None)
        return None if cut is None else f"{cut} is cut: the archive ends inside it"

    def _images(self, fields: dict[str, _Member]) -> list[str]:
        if self.image != AUTO:
            return [self.image] if self.image in fields else []
        return [field for field in fields if "." + field.rsplit(".", 1)[-1] in EXTENSIONS]

    def _image_field(self, fields: dict[str, _Member]) -> str:
        return self._images(fields)[0]

    def _label(self, shard: int, stem: str, fields: dict[str, _Member]) -> int | str | None:
        if self.label is None:
            return None
        member = fields[self.label]
        try:
            word = member.read().decode("utf-8").strip() if member.size <= _LONGEST_LABEL else ""
        except UnicodeDecodeError:
            word = ""
        if not word or not word.isprintable():
            raise ValueError(
                f"{self.names[shard]}: {stem}.{self.label} ({member.size} bytes) is no label, which is a number or a "
                "word: name another field by data.label, or set data.label=null"
            )
        return int(word) if re.fullmatch(r"\d{1,9}", word) else word


class _Archive:
    """A tar archive that is gone through from its beginning, once.

    Attributes:
        end: Where it stopped, in bytes; known at the end.
    """

    def __init__(self, path: str) -> None:
        self.path, self.end = path, 0

    def __iter__(self) -> Iterator[tuple[str, _Member]]:
        """The regular files: name, and place; the size is -1 where the archive ends inside the file."""
        length = os.path.getsize(self.path)
        with open(self.path, "rb") as file:
            if file.read(4).startswith(_COMPRESSED):
                raise ValueError(
                    f"{self.path}: the archive is compressed, and images are already: unpack it to a plain .tar"
                )
            file.seek(0)
            try:
                with tarfile.open(fileobj=file, mode="r:", format=tarfile.GNU_FORMAT) as tar:
                    while (member := _next(tar)) is not None:
                        if member.isfile():
                            whole = member.offset_data + member.size <= length
                            yield member.name, _Member(self.path, member.offset_data, member.size if whole else -1)
                        cast(Any, tar).members.clear()  # which would otherwise grow with the archive
                    self.end = tar.offset
            except tarfile.TarError as error:
                why = "it is empty" if length == 0 else str(error) or "no header of a tar archive"
                raise ValueError(f"{self.path} is no tar archive, or is damaged: {why}") from None

    def unread(self) -> str | None:
        """What stands behind the place where it stopped, in words; None where that is its end, two empty blocks."""
        with open(self.path, "rb") as file:
            file.seek(self.end)
            header, second = file.read(_BLOCK), file.read(_BLOCK)
            if len(header) == _BLOCK and any(header):
                return f"what comes behind byte {self.end}, where the header of a file is damaged"
            if len(second) < _BLOCK:
                return "what comes behind its end, which is missing: the archive may have been cut"
            if any(second) or any(any(part) for part in iter(partial(file.read, 2**20), b"")):
                return f"what comes behind its end at byte {self.end}: archives are joined by tar --concatenate"
        return None


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next file; None at the end, and where an archive was cut inside the file before."""
    try:
        return tar.next()
    except tarfile.ReadError:
        if tar.offset == 0:
            raise
        return None


class HuggingFaceShards:
    """A split of an iterable Hugging Face set, of as many shards as it has files. A `Shards`.

    Args:
        path: See `huggingface.opened`.
        split: Its name.
        image: The column of the images.
        label: The column of the classes; None without.
        key: Of the configuration, for messages.

    Raises:
        FileNotFoundError: If there is no such set.
        ValueError: On a split or a column that is not there.
    """

    def __init__(self, path: Any, split: str, image: str, label: str | None, key: str = "data.path") -> None:
        splits = opened(path, "data.path", streaming=True)
        if split not in splits:
            raise ValueError(f"{key}={split}: data.path={path} has no such split; it has {few(list(splits))}")
        of = splits[split]
        self.image, self.label, self.folder = image, label, Path(str(path)).expanduser()
        of = undecoded(of, image, "data.image", split)
        feature = None if label is None else column_of(of, label, "data.label", split)
        names = getattr(feature, "names", None)
        self.class_names: tuple[str, ...] | None = None if names is None else tuple(names)
        self.columns = [image] if label is None else [image, label]
        self.split = of.select_columns(self.columns)
        self.name = self.folder.name
        self.names: Sequence[str] = [f"{split} shard {i}" for i in range(self.split.num_shards)]

    def stamp(self, shard: int) -> str:
        """ "": what lies behind a name is not known."""
        return ""

    def scan(self, shard: int) -> Scan:
        """Goes through a shard."""
        count, left_out = 0, list[str]()
        labels: set[int | str | None] = set()
        for row, cells in enumerate(self._rows(shard, 0)):
            why = self._wrong(cells)
            if why is not None:
                left_out.append(f"row {row} ({why})")
                continue
            count += 1
            labels.add(self._label_of(cells))
        if not count:
            raise ValueError(f"{self.name}, {self.names[shard]}: no row can be used: {few(left_out, 3)}")
        known = sorted((x for x in labels if x is not None), key=lambda x: (str(type(x)), x))
        return Scan(count, tuple(known), tuple(left_out))

    def read(self, shard: int, first: int = 0, left_out: list[str] | None = None) -> Iterator[Sample]:
        """The rows of a shard in order; those that come before `first` are passed over."""
        number = 0
        for row, cells in enumerate(self._rows(shard, 0)):
            why = self._wrong(cells)
            if why is not None:
                if left_out is not None:
                    left_out.append(f"{self.names[shard]}: row {row} ({why})")
                continue
            if number >= first:
                name = f"{self.name}, {self.names[shard]}, row {row}"
                image = EncodedImage(name, partial(encoded_bytes, cells[self.image], self.folder))
                yield Sample(f"{shard}/{row}", image, self._label_of(cells))
            number += 1

    def _rows(self, shard: int, first: int) -> Iterable[dict[str, Any]]:
        return self.split.shard(num_shards=len(self.names), index=shard)

    def _wrong(self, cells: dict[str, Any]) -> str | None:
        if cells[self.image] is None:
            return "no image"
        return None if self.label is None or cells[self.label] not in (None, -1, "") else "no label"

    def _label_of(self, cells: dict[str, Any]) -> int | str | None:
        if self.label is None:
            return None
        label = cells[self.label]
        if not isinstance(label, int | str):
            raise ValueError(
                f"data.label: the labels of {self.name} are of type {type(label).__name__} ({str(label)[:40]}); "
                "classes are whole numbers or words: name another column, or set data.label=null"
            )
        return label
