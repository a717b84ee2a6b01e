"""`bt-train audit`: what is wrong with a collection before anything is trained on it.

Twins (mirrored ones too), twins with different labels, twins across sources, images unlike their class,
files that cannot be read, and how unevenly classes and sources are filled: where a class comes from one
source only, a network learns the source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.contact_sheets import conflicting, draw_audit, strangers_report
from trainer.data.dataset import Collection, Dataset, Progress
from trainer.data.groups import group_ids, near_duplicates
from trainer.data.strangers import find_strangers
from trainer.images.arrays import Ints
from trainer.model.spec import Preprocessing

# Listed by name in the report; the counts are complete.
_SHOWN = 20
_NAMED = 4  # strangers of a ranking


def audit(
    collection: Collection, progress: Progress | None = None, sheets: Path | None = None
) -> dict[str, Any]:
    """Return what was found in the class folders of a collection, as what becomes a JSON object.

    `sheets` is a folder for contact sheets: of strangers, of twins with other labels, of mirrored twins.
    """
    dataset = collection.load(Preprocessing(), progress)
    pairs = near_duplicates(dataset.pictures)
    exact = group_ids(dataset.hashes)
    groups = group_ids(dataset.hashes, pairs)
    strangers = find_strangers(dataset)
    drawn = []
    if sheets is not None:
        drawn = draw_audit(sheets, dataset, strangers, pairs, conflicting(groups, dataset))
    return {
        "images": len(dataset),
        "unreadable": [{"file": str(image.path), "reason": reason} for image, reason in dataset.unreadable],
        "excluded": dataset.excluded_text,
        "counts": _counts(dataset),
        "exact_duplicates": len(exact) - len(np.unique(exact)),
        "groups": len(np.unique(groups)),
        "with_a_twin": {
            name: round(float((np.bincount(groups)[groups[here]] > 1).mean()), 4)
            for number, name in enumerate(dataset.source_names)
            if (here := dataset.sources == number).any()
        },
        "across_sources": _spanning(groups, dataset.sources, dataset),
        "label_conflicts": _spanning(groups, dataset.labels, dataset),
        "one_sided_sources": _one_sided(dataset),
        "mirrored_twins": len(
            np.unique(np.concatenate((pairs.first, pairs.second))[np.tile(pairs.mirrored, 2)])
        ),
        "strangers": strangers_report(strangers, dataset),
        "sheets": drawn,
    }


def audit_text(report: Mapping[str, Any]) -> str:
    """Return the report for a person, the worst first."""
    lines = [f"{report['images']} images in {report['groups']} groups of (near-)duplicates"]
    lines += [report["excluded"]] if report["excluded"] else []
    lines += [f"  {source}: " + ", ".join(f"{label} {count}" for label, count in labels.items())
              for source, labels in report["counts"].items()]  # fmt: skip
    lines.append(f"{report['exact_duplicates']} files have the same bytes as another")
    lines += [
        f"  {share:.1%} of {source} have a twin" for source, share in report["with_a_twin"].items() if share
    ]
    lines.append(f"{report['mirrored_twins']} images have a mirrored twin")
    lines += _listed("groups of twins with different labels", report["label_conflicts"])
    lines += _listed("groups of twins across sources", report["across_sources"])
    unreadable = report["unreadable"]
    lines.append(f"{len(unreadable)} files cannot be read")
    lines += [f"  {one['file']}: {one['reason']}" for one in unreadable[:_SHOWN]]
    lines += [f"{source} holds only {label}: a network can tell that class by the look of the source"
              for source, label in report["one_sided_sources"].items()]  # fmt: skip
    lines += _strangers(report["strangers"])
    lines += [f"{len(report['sheets'])} sheets are drawn"] if report["sheets"] else []
    return "\n".join(lines)


def _strangers(rankings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the first few of each ranking."""
    lines = ["least like the others of their class (in robust standard deviations; look at them: --sheets)"]
    for one in rankings:
        first = ", ".join(f"{file['file']} {file['score']:.1f}" for file in one["files"][:_NAMED])
        lines.append(f"  {one['source']} {one['label']}, {one['measure']}: {first}")
    return lines if rankings else []


def _counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    pairs = Counter(zip(dataset.sources.tolist(), dataset.labels.tolist(), strict=True))
    return {
        name: {label: pairs[number, index] for index, label in enumerate(dataset.classes)}
        for number, name in enumerate(dataset.source_names)
    }


def _spanning(groups: Ints, kinds: Ints, dataset: Dataset) -> list[list[str]]:
    """Return the groups whose images are of more than one kind, as lists of names."""
    spans = np.unique(np.stack((groups, kinds), axis=1), axis=0)
    numbers, counts = np.unique(spans[:, 0], return_counts=True)
    return [
        [dataset.files[index].name for index in np.flatnonzero(groups == number)]
        for number in numbers[counts > 1]
    ]


def _one_sided(dataset: Dataset) -> dict[str, str]:
    counts = _counts(dataset)
    return {
        source: next(label for label, count in labels.items() if count)
        for source, labels in counts.items()
        if sum(count > 0 for count in labels.values()) == 1
    }


def _listed(what: str, groups: Sequence[Sequence[str]]) -> list[str]:
    more = [f"  and {len(groups) - _SHOWN} more (--json names them)"] if len(groups) > _SHOWN else []
    return [f"{len(groups)} {what}", *(f"  {' = '.join(group[:4])}" for group in groups[:_SHOWN]), *more]
