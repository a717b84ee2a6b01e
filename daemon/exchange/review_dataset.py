"""Dataset of what people said: class folders with a groups file, as `bt-train` takes them.

CLASS/17.png       an image by its id in the database; the bytes that were judged
other-kind/18.png  no image the model is for; `exclude.csv` keeps it from being a class
groups.csv         file, patient, series, position, sha256: images that must not be parted by a split
dataset.json       what it was made of
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from config.errors import BtError, UsageError
from config.text import DISCLAIMER, printable
from daemon.exchange.export_folder import export_folder
from daemon.output.review_words import ANSWER_WORDS, full_path, reviewed_model, together
from daemon.store.source_reader import read_judged_source
from daemon.version import DISTRIBUTION, program_version
from storage.reviews.answers import StoredReview
from storage.schema import ReviewAnswer
from trainer.images.picture import Limits, PictureError, ReadFailure
from trainer.images.read import JudgedFile

GROUPS, EXCLUDED, DESCRIPTION = "groups.csv", "exclude.csv", "dataset.json"
_REJECT = ("reject", "a person said that it is no image of the kind")
_FORMAT = "class folders of reviewed images"
_SUFFIX = re.compile(r"(?:\.nii)?\.[A-Za-z0-9]{1,8}$")
_LONGEST_NAME = 255  # bytes of a folder's name


class NotExported(StrEnum):
    """Why an image with a review is in no class folder, in words for a count of them."""

    SKIPPED = "skipped"
    DISPUTED = "disputed (people contradict each other, or copies of one image have two answers)"
    VOLUME = "of volumes (bt-train would take the middle slice, not the one that was judged)"
    CHANGED = "changed since they were judged"
    GONE = "gone"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """How a dataset is written."""

    classes: Mapping[str, Collection[str]]  # of each model, by its weights' sha256
    limits: Limits
    is_linked: bool  # hard links in place of copies
    progress: Callable[[int, int], None]  # called with (images done, images in all)


@dataclass(frozen=True, slots=True)
class DatasetWritten:
    """What a dataset holds, and what it does not."""

    classes: Mapping[str, int]  # images by class folder
    to_reject: int
    left_out: Mapping[NotExported, Sequence[bytes]]  # absolute paths
    # Why an image is missing that somebody may look for.
    named: ClassVar = (NotExported.CHANGED, NotExported.GONE, NotExported.UNREADABLE)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """An image and the class folder it belongs into."""

    review: StoredReview
    folder: str
    is_rejected: bool

    @property
    def name(self) -> str:
        """The name below the dataset: no two are alike, and nothing of the original's name is in it."""
        suffix = _SUFFIX.search(os.fsdecode(self.review.path))
        return f"{self.folder}/{self.review.file_id}{suffix[0].lower() if suffix else ''}"


def is_review_dataset(folder: Path) -> bool:
    """Tell whether a folder is a dataset that this program wrote."""
    try:
        told = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        return bool(told["GeneratedBy"]["Name"] == DISTRIBUTION and told["Format"] == _FORMAT)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def write_review_dataset(
    found: Iterable[StoredReview], folder: Path, request: DatasetRequest
) -> DatasetWritten:
    """Write the dataset of reviews to `folder`, whole or not at all.

    What stands in an earlier dataset there and no longer in this one is removed. Raises BtError when it
    cannot be written or would hold nothing, UsageError for a class that can be no folder's name and for a
    folder below an inbox.
    """
    standing = [one for one in found if one.stands]
    _check_inboxes(folder, standing)
    _check_classes(standing, request.classes)
    left_out: dict[NotExported, list[bytes]] = defaultdict(list)
    labelled = _labelled(standing, left_out)
    kept: list[_Labelled] = []
    with export_folder(folder) as made:
        for number, one in enumerate(labelled):
            if (why := _put(one, made, request)) is None:
                kept.append(one)
            else:
                left_out[why].append(full_path(one.review))
            request.progress(number + 1, len(labelled))
        if not kept:
            raise _nothing(left_out)
        _write_tables(made, folder.name, kept)
        _write_description(made, kept, left_out)
        _remove_stale(folder, {one.name for one in kept}, has_excluded=(made / EXCLUDED).exists())
    classes = Counter(one.folder for one in kept if not one.is_rejected)
    return DatasetWritten(dict(sorted(classes.items())), len(kept) - classes.total(), dict(left_out))


def _check_inboxes(folder: Path, found: Iterable[StoredReview]) -> None:
    """Refuse a folder in which a daemon would take the copies for new images."""
    place = os.path.join(os.path.realpath(os.fsencode(folder)), b"")
    for inbox in {one.inbox for one in found}:
        if place.startswith(os.path.join(os.path.realpath(inbox), b"")):
            raise UsageError(
                f"{printable(str(folder))} lies in the inbox {printable(os.fsdecode(inbox))}, "
                "where its images would be judged again",
                hint="name a folder elsewhere",
            )


def _check_classes(found: Iterable[StoredReview], classes: Mapping[str, Collection[str]]) -> None:
    """Refuse reviews of models with different classes: together they are no one question's answers."""
    models = {reviewed_model(one): frozenset(classes[one.weights_sha256]) for one in found}
    if len(set(models.values())) > 1:
        raise UsageError(
            f"the reviews are of models with different classes: {', '.join(map(printable, models))}",
            hint="choose one with --model",
        )


def _labelled(found: Sequence[StoredReview], left_out: dict[NotExported, list[bytes]]) -> list[_Labelled]:
    """Return the images with one answer, sorted by id; what cannot be taken goes to `left_out`."""
    answers = together(found)
    images = {one.file_id: one for one in found} | {
        one.file_id: one for one in found if one.answer is not ReviewAnswer.SKIPPED
    }
    of_bytes: dict[bytes | int, set[str | None]] = defaultdict(set)
    for one in images.values():
        if answers[one.file_id].answer is not ReviewAnswer.SKIPPED:
            of_bytes[one.sha256 or one.file_id].add(answers[one.file_id].label)
    rejects = _free_name({one.label for one in images.values()})
    kept = []
    for file_id, one in sorted(images.items()):
        is_disputed = answers[file_id].answer is None or len(of_bytes[one.sha256 or file_id]) > 1
        if one.answer is ReviewAnswer.SKIPPED:
            left_out[NotExported.SKIPPED].append(full_path(one))
        elif is_disputed:
            left_out[NotExported.DISPUTED].append(full_path(one))
        elif (one.slice_count or 1) > 1:
            left_out[NotExported.VOLUME].append(full_path(one))
        elif one.label is None:
            kept.append(_Labelled(one, rejects, is_rejected=True))
        else:
            kept.append(_Labelled(one, _class_folder(one.label), is_rejected=False))
    return kept


def _free_name(classes: Collection[str | None]) -> str:
    """Return a folder's name for what is of another kind, which no class has."""
    name = ANSWER_WORDS[ReviewAnswer.OTHER_KIND]
    while name in classes:
        name += "_"
    return name


def _class_folder(label: str) -> str:
    """Return the folder of a class, which is called as the class is; raise UsageError if none can be."""
    is_name = label not in {"", GROUPS, EXCLUDED, DESCRIPTION} and not label.startswith(".")
    if not is_name or set(label) & {"/", "\0"} or len(label.encode()) > _LONGEST_NAME:
        raise UsageError(
            f"the class {printable(repr(label))} cannot be the name of a folder",
            hint="a dataset of it has to be made by hand",
        )
    return label


def _put(one: _Labelled, made: Path, request: DatasetRequest) -> NotExported | None:
    """Copy or link an image, if its bytes are still those that were judged; return why it is not there."""
    place, review = made / one.name, one.review
    root, path = (b"", review.moved_to) if review.moved_to else (review.inbox, review.path)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        if request.is_linked:
            _link(os.path.join(root, path), place)
            read_judged_source(JudgedFile(b"", os.fsencode(place), review.sha256), request.limits)
        else:
            file = JudgedFile(root, path, review.sha256)
            place.write_bytes(read_judged_source(file, request.limits).data)
    except PictureError as error:
        place.unlink(missing_ok=True)
        return _WHY.get(error.kind, NotExported.UNREADABLE)
    return None


def _link(source: bytes, place: Path) -> None:
    """Make a hard link (bt-train follows no symbolic ones); raise BtError where there can be none."""
    try:
        os.link(source, place, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        raise PictureError(ReadFailure.GONE, "the file is gone") from None
    except OSError as error:
        raise BtError(
            f"cannot link {printable(os.fsdecode(source))}: {error.strerror}",
            hint="hard links stay on one file system; use --copy",
        ) from error


def _write_tables(made: Path, name: str, kept: Sequence[_Labelled]) -> None:
    with _table(made / GROUPS, ("file", "patient", "series", "position", "sha256")) as write:
        for one in kept:
            review = one.review
            series = "" if review.series_id is None else f"series-{review.series_id}"
            key = review.patient_key or review.study_key
            position = "" if review.position is None else f"{review.position:.6g}"
            digest = (review.sha256 or b"").hex()
            write((f"{name}/{one.name}", series if key is None else key.hex(), series, position, digest))
    if any(one.is_rejected for one in kept):
        with _table(made / EXCLUDED, ("file", "use", "reason")) as write:
            for one in kept:
                if one.is_rejected:
                    write((f"{name}/{one.name}", *_REJECT))


@contextlib.contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Sequence[str]], Any]]:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        yield writer.writerow


def _write_description(
    made: Path, kept: Sequence[_Labelled], left_out: Mapping[NotExported, Sequence[bytes]]
) -> None:
    told = {
        "Format": _FORMAT,
        "GeneratedBy": {"Name": DISTRIBUTION, "Version": program_version()},
        "Notice": DISCLAIMER,
        "Folders": dict(sorted(Counter(one.folder for one in kept).items())),
        "LeftOut": {why.name.lower(): len(names) for why, names in left_out.items()},
        "ReviewedModels": sorted({printable(reviewed_model(one.review)) for one in kept}),
    }
    (made / DESCRIPTION).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _remove_stale(folder: Path, names: Collection[str], *, has_excluded: bool) -> None:
    """Remove the images of an earlier dataset that this one has not, and its exclude list; nothing else."""
    try:
        with (folder / GROUPS).open(encoding="utf-8", newline="") as stream:
            listed = [(row["file"] or "").split("/")[1:] for row in csv.DictReader(stream)]
    except (OSError, ValueError, LookupError, csv.Error):
        return
    for parts in listed:
        if len(parts) == 2 and "/".join(parts) not in names and not {"", ".", ".."} & set(parts):
            (folder / parts[0] / parts[1]).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (folder / parts[0]).rmdir()  # if it is empty
    if not has_excluded:
        (folder / EXCLUDED).unlink(missing_ok=True)


def _nothing(left_out: Mapping[NotExported, Sequence[bytes]]) -> BtError:
    told = left_out_words(left_out)
    return BtError(
        "no dataset was written: "
        + (f"all are left out: {told}" if told else "nobody has answered anything"),
        hint="bt-daemon review lists what waits, --done what was said",
    )


def next_commands(done: DatasetWritten, folder: Path) -> list[str]:
    """Return the command lines that train on a dataset, measure a model on it, and fit one to it."""
    data = f"--data {shlex.quote(str(folder))}"
    excluded = f" --exclude-list {shlex.quote(str(folder / EXCLUDED))}" if done.to_reject else ""
    groups = f" --groups {shlex.quote(str(folder / GROUPS))}"
    return [
        f"bt-train {data}{groups}{excluded}",
        f"bt-train eval {data}{groups}{excluded}",
        f"bt-train calibrate {data}{groups}{excluded} -o calibrated.safetensors",
    ]


def left_out_words(left_out: Mapping[NotExported, Sequence[bytes]]) -> str:
    """Return how many images are left out for which reason, in the order of the reasons."""
    return ", ".join(f"{len(left_out[why]):,} {why.value}" for why in NotExported if left_out.get(why))


_WHY = {ReadFailure.CHANGED: NotExported.CHANGED, ReadFailure.GONE: NotExported.GONE}
