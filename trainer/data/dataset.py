"""Folders of class folders become one array of network inputs, decoded once.

Each root is a source; its subfolders are classes (the convention of torchvision's ImageFolder).
`--merge yes=glioma,meningioma` gives several folders one class.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from config.errors import DataError, UsageError
from config.text import printable
from trainer.data.exclusions import NO_EXCLUSIONS, REJECT, Exclusions
from trainer.data.image_cache import Decoded, _from_cache, _to_cache
from trainer.data.memberships import ImageMembership, merged, pseudonym_key, pseudonymous, read_memberships
from trainer.images.arrays import Grey, Ints
from trainer.images.decode import Limits, PictureError, decode, read_file
from trainer.model.preprocess import preprocess
from trainer.model.spec import Preprocessing

# Changed when the reader or the cache's layout changes, so that no stale pictures are trained on.
_CACHE_FORMAT = 3
_CHUNK = 32
_CRASHED = "the decoder crashed"
# So many files in a row that kill their process: then it is not the files.
_MOST_CRASHES = 5


Progress = Callable[[int, int], None]  # called with (images decoded, images in all)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One labelled file."""

    path: Path
    source: str  # the name of its root
    label: str  # its class, after merging

    @property
    def name(self) -> str:
        """The path below its root's parent, as groups files and reports name it."""
        return "/".join(self.path.parts[-3:])


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures and what is known of each, all of the same length."""

    files: tuple[ImageFile, ...]
    pictures: Grey  # (n, S, S), in colour (n, S, S, 3)
    labels: Ints  # (n,), places in `classes`
    sources: Ints  # (n,), places in `source_names`
    hashes: tuple[str, ...]  # (n,), sha256 of the files, hex
    memberships: tuple[
        ImageMembership, ...
    ]  # (n,), patient and series by the files' tags, or by a groups file
    classes: tuple[str, ...]
    source_names: tuple[str, ...]
    unreadable: tuple[tuple[ImageFile, str], ...] = ()
    left_out: tuple[ImageFile, ...] = ()  # by the exclude list
    to_reject: tuple[ImageFile, ...] = ()  # by the exclude list, and examples of what is to be rejected

    def __len__(self) -> int:
        return len(self.files)

    @property
    def patients(self) -> list[str]:
        """The patient of each image (n,), "" where that is not known."""
        return [one.patient for one in self.memberships]

    def labels_in(self, classes: Sequence[str]) -> Ints:
        """Return the labels (n,) as indices into a model's classes.

        Raises DataError if there are images of a class that the model does not know.
        """
        if unknown := sorted(set(self.classes) - set(classes)):
            raise DataError(
                f"the model knows no class {printable(', '.join(unknown))}",
                hint=f"map folders to {', '.join(map(printable, classes))} with --merge",
            )
        indices = np.array([classes.index(name) for name in self.classes], dtype=np.int64)
        return indices[self.labels]

    @property
    def excluded_text(self) -> str:
        """What the exclude list did, in one line; "" if it left nothing out."""
        count = len(self.left_out) + len(self.to_reject)
        if not count:
            return ""
        files = "1 file" if count == 1 else f"{count} files"
        return f"left out {files} of the exclude list, {len(self.to_reject)} of them examples to reject"


@dataclass(frozen=True, slots=True)
class Collection:
    """Folders of class folders, how their classes are merged, and where decoded images are kept.

    A groups file tells patients and series; where it is silent, the files' own tags do.
    """

    roots: tuple[Path, ...]
    merge: Mapping[str, str]
    cache: Path
    exclusions: Exclusions = NO_EXCLUSIONS
    groups: Path | None = None

    def load(
        self, preprocessing: Preprocessing, progress: Progress | None = None, *, least_classes: int = 2
    ) -> Dataset:
        """Return the decoded images, without those excluded.

        Raises DataError if there are none or too few classes, UsageError if the exclude list names none.
        """
        files = find_images(self.roots, self.merge, least_classes=least_classes)
        self.exclusions.check_used(image.name for image in files)
        uses = [self.exclusions.use_of(image.name) for image in files]
        kept = [image for image, use in zip(files, uses, strict=True) if use is None]
        if not kept:
            raise DataError("the exclude list leaves no image", hint="take files off the list")
        dataset = load_dataset(
            kept, preprocessing, self.cache, progress=progress, least_classes=least_classes
        )
        to_reject = tuple(image for image, use in zip(files, uses, strict=True) if use == REJECT)
        left_out = tuple(image for image, use in zip(files, uses, strict=True) if use not in {None, REJECT})
        return replace(
            dataset, left_out=left_out, to_reject=to_reject, memberships=self._memberships(dataset)
        )

    def _memberships(self, dataset: Dataset) -> tuple[ImageMembership, ...]:
        if self.groups is None:
            return dataset.memberships
        return merged(read_memberships(self.groups, [one.name for one in dataset.files]), dataset.memberships)

    def load_strangers(
        self, dataset: Dataset, preprocessing: Preprocessing, progress: Progress | None = None
    ) -> Grey:
        """Return the pictures (k, S, S) of the files to reject that can be read; k is 0 without any."""
        if not dataset.to_reject:
            return np.zeros((0, *preprocessing.input_shape), dtype=np.uint8)
        return load_dataset(
            dataset.to_reject, preprocessing, self.cache, progress=progress, least_classes=1
        ).pictures


def find_images(
    roots: Sequence[Path], merge: Mapping[str, str] | None = None, *, least_classes: int = 2
) -> list[ImageFile]:
    """Return the labelled files below the roots, sorted; raise DataError if they cannot be trained on."""
    merge = merge or {}
    found: list[ImageFile] = []
    for root in roots:
        shown = printable(str(root))
        if not root.is_dir():
            raise DataError(
                f"no folder at {shown}", hint="--data takes a folder of class folders (no/, yes/)"
            )
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not folders:
            raise DataError(
                f"{shown} holds no class folders", hint="put the images of each class in a folder of its own"
            )
        source = _source_name(root, {image.source for image in found})
        for folder in folders:
            label = merge.get(folder.name, folder.name)
            found += [ImageFile(path, source, label) for path in _files_below(folder)]
    classes = sorted({image.label for image in found})
    if not found:
        raise DataError("the class folders are empty", hint="put images in them")
    if len(classes) < least_classes:
        raise DataError(
            f"there is only one class, {printable(repr(classes[0]))}",
            hint="a network needs at least two class folders with images, such as no/ and yes/",
        )
    return found


def _source_name(root: Path, taken: set[str]) -> str:
    """Return the folder's name, with as many parents before it as make it another source's no more."""
    parts = root.resolve().parts
    for count in range(1, len(parts)):
        if (name := "/".join(parts[-count:])) not in taken:
            return name
    return str(root)


def parse_merge(rules: Iterable[str]) -> dict[str, str]:
    """Return folder -> class for rules such as 'yes=glioma,meningioma'; raise UsageError for others."""
    merged: dict[str, str] = {}
    for rule in rules:
        label, separator, folders = rule.partition("=")
        names = [name.strip() for name in folders.split(",") if name.strip()]
        if not separator or not label.strip() or not names:
            raise UsageError(
                f"--merge {printable(rule)!r} is no rule", hint="write --merge yes=glioma,pituitary"
            )
        merged |= dict.fromkeys(names, label.strip())
    return merged


def load_dataset(
    files: Sequence[ImageFile],
    preprocessing: Preprocessing,
    cache: Path,
    *,
    workers: int = 0,
    progress: Progress | None = None,
    least_classes: int = 2,
) -> Dataset:
    """Decode the files in parallel, or take them from the cache; unreadable ones are left out and named.

    `progress(done, total)` is called as it goes. The pictures come back as a read-only memory map
    when they were cached, so a large set does not have to fit into memory.
    """
    workers = workers or os.cpu_count() or 1
    key = pseudonym_key(cache)
    place = cache / "pictures" / f"{_key(files, preprocessing, key)}.npz"
    loaded = _from_cache(place, len(files))
    if loaded is None:
        loaded = _decode_all(files, _Decoding(preprocessing, key), workers, progress)
        _to_cache(place, loaded)
    good = [number for number, reason in enumerate(loaded.reasons) if not reason]
    kept = tuple(files[number] for number in good)
    if not kept:
        raise DataError("none of the images could be read", hint="bt-train audit --data DIR says why")
    classes = tuple(sorted({image.label for image in kept}))
    if len(classes) < least_classes:
        raise DataError("only one class has readable images", hint="bt-train audit --data DIR says why")
    names = tuple(dict.fromkeys(image.source for image in kept))
    return Dataset(
        files=kept,
        pictures=loaded.pictures if len(good) == len(files) else loaded.pictures[good],
        labels=np.array([classes.index(image.label) for image in kept], dtype=np.int64),
        sources=np.array([names.index(image.source) for image in kept], dtype=np.int64),
        hashes=tuple(loaded.hashes[number] for number in good),
        memberships=tuple(loaded.memberships[number] for number in good),
        classes=classes,
        source_names=names,
        unreadable=tuple((files[n], reason) for n, reason in enumerate(loaded.reasons) if reason),
    )


@dataclass(frozen=True, slots=True)
class _Decoding:
    """How files are decoded: into what, and the key of the pseudonyms of what they say of patients."""

    preprocessing: Preprocessing
    key: bytes

    def read(self, path: Path) -> tuple[Grey, str, ImageMembership]:
        """Return the network's input for a file (the middle slice of a volume), its sha256 and membership."""
        limits = Limits()
        content = read_file(path, limits)
        picture = decode(
            content.data, limits, self.preprocessing.reading_size, colour=self.preprocessing.is_colour
        )
        middle = picture.slices[len(picture.slices) // 2].image
        membership = pseudonymous(picture.membership, self.key)
        return preprocess(middle, self.preprocessing), content.sha256.hex(), membership


Job = tuple[int, list[Path], _Decoding]  # place of the first file, files
JobResult = tuple[int, list[tuple[Grey, str, ImageMembership] | str]]  # what was read, or why it was not


def _decode_all(
    files: Sequence[ImageFile], decoding: _Decoding, workers: int, progress: Progress | None
) -> Decoded:
    count = len(files)
    pictures = np.zeros((count, *decoding.preprocessing.input_shape), dtype=np.uint8)
    decoded = Decoded(pictures, [""] * count, [""] * count, [ImageMembership()] * count)
    jobs = [
        (start, [image.path for image in files[start : start + _CHUNK]], decoding)
        for start in range(0, count, _CHUNK)
    ]
    done = 0
    for start, results in _run_jobs(jobs, min(workers, len(jobs))):
        for place, result in enumerate(results, start):
            if isinstance(result, str):
                decoded.reasons[place] = result
            else:
                pictures[place], decoded.hashes[place], decoded.memberships[place] = result
        done += len(results)
        if progress is not None:
            progress(done, count)
    return decoded


def _run_jobs(jobs: Sequence[Job], workers: int) -> Iterator[JobResult]:
    """Yield the result of every job; a decoder that kills its process costs its own file only."""
    left = list(jobs)
    try:
        # Spawned, not forked: torch's threads may be running in this process.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for result in pool.map(_decode_some, jobs):
                left.pop(0)
                yield result
    except BrokenProcessPool:
        yield from _run_jobs_one_by_one(left)


def _run_jobs_one_by_one(jobs: Sequence[Job]) -> Iterator[JobResult]:
    crashed = 0  # in a row
    for start, paths, decoding in jobs:
        for offset, path in enumerate(paths):
            result = _decode_alone((start + offset, [path], decoding))
            crashed = crashed + 1 if result[1] == [_CRASHED] else 0
            if crashed >= _MOST_CRASHES:
                raise DataError(
                    f"{crashed} images in a row crashed the decoder, the last one {printable(str(path))}",
                    hint="bt-train audit --data DIR looks at each; free memory if it runs out",
                )
            yield result


def _decode_alone(job: Job) -> JobResult:
    """Decode in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_decode_some, job).result()
        except BrokenProcessPool:
            return job[0], [_CRASHED]


def _decode_some(job: Job) -> JobResult:
    start, paths, decoding = job
    results: list[tuple[Grey, str, ImageMembership] | str] = []
    for path in paths:
        try:
            results.append(decoding.read(path))
        except PictureError as error:
            results.append(error.reason)
    return start, results


def _files_below(folder: Path) -> list[Path]:
    """Return the regular files of a class folder and its subfolders, hidden ones left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    )


def _key(files: Sequence[ImageFile], preprocessing: Preprocessing, key: bytes) -> str:
    """Name cached pictures by what they are made of: paths, sizes, times, preprocessing, pseudonyms' key."""
    digest = hashlib.sha256(f"{_CACHE_FORMAT} {preprocessing}".encode() + key)
    for image in files:
        seen = image.path.stat()
        digest.update(
            f"{image.path.resolve()}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()[:32]
