"""BIDS derivatives: a dataset of what was concluded about each series and participant.

https://bids-specification.readthedocs.io, "Derivatives". What a model says of a participant is a table
in `phenotype/`, the model being the measurement tool. BIDS has no table with a row per series yet: it is
`series.tsv`, which `.bidsignore` names, as the specification asks for files beyond it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import BtError
from config.text import DISCLAIMER, printable
from daemon.exchange.bids_columns import BidsColumn, BidsRow, participant_columns, series_columns, sidecar
from daemon.exchange.bids_labels import bids_labels
from daemon.exchange.export_folder import export_folder
from daemon.output.words import score_of
from daemon.version import DISTRIBUTION, SHORT_HASH, program_version
from storage.queries.series_rows import SeriesRow, series_rows
from storage.query import Grouping, Query, Sort

if TYPE_CHECKING:
    import sqlalchemy as sa

    from trainer.model.spec import ModelSpec

BIDS_VERSION = "1.11.1"
_DESCRIPTION = "dataset_description.json"
_MODEL_TABLE = re.compile(rf"-[0-9a-f]{{{SHORT_HASH}}}\.(?:tsv|json)$")


@dataclass(frozen=True, slots=True)
class BidsWritten:
    """How much a dataset holds."""

    participants: int
    series: int
    models: int


@dataclass(frozen=True, slots=True)
class BidsRequest:
    """What goes into a dataset."""

    query: Query
    now_us: int  # microseconds since the epoch, UTC
    quiet_us: int  # a series to which nothing came for so long is complete
    spec: Callable[[str], ModelSpec | None]  # of a model by its weights' sha256


def is_bids_export(folder: Path) -> bool:
    """Tell whether a folder is a dataset that this program wrote."""
    try:
        told = json.loads((folder / _DESCRIPTION).read_text("utf-8"))
        return bool(told["GeneratedBy"][0]["Name"] == DISTRIBUTION)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def write_bids(connection: sa.Connection, request: BidsRequest, folder: Path) -> BidsWritten:
    """Write the dataset of a query's series to `folder`; raise BtError when it cannot be written."""
    by_series, by_patient = (
        _once(series_rows(connection, grouping, replace(request.query, sort=Sort.TIME, reverse=True)))
        for grouping in (Grouping.SERIES, Grouping.PATIENT)
    )
    if not by_series:
        raise BtError("no dataset was written: no series match", hint="bt-daemon results lists what there is")
    tables = _Tables([*by_series, *by_patient], request)
    models = {row.weights_sha256: row for row in (*by_series, *by_patient)}
    with export_folder(folder) as made:
        _write_json(made / _DESCRIPTION, _description(list(models.values())))
        (made / "README.md").write_text(_readme(), "utf-8")
        (made / ".bidsignore").write_text("series.tsv\nseries.json\n", "utf-8")
        meanings = _meanings(models, request)
        tables.write(made / "series.tsv", by_series, series_columns(meanings))
        (made / "phenotype").mkdir(mode=0o700)
        for sha256, model in models.items():
            rows = [row for row in by_patient if row.weights_sha256 == sha256]
            columns = participant_columns(_meanings({sha256: model}, request))
            tool = {
                "Description": f"What {printable(model.model)} says of each participant. {DISCLAIMER}",
                "MeasurementToolMetadata": {"Description": _model_words(model)},
            }
            tables.write(made / "phenotype" / f"{_table_name(model)}.tsv", rows, columns, tool)
    _remove_stale(folder / "phenotype", {f"{_table_name(model)}" for model in models.values()})
    return BidsWritten(tables.participants, len(by_series), len(models))


class _Tables:
    """Writes answers under the labels of one dataset."""

    def __init__(self, answers: Sequence[SeriesRow], request: BidsRequest) -> None:
        self._request = request
        self._patients = bids_labels(_participant(row) for row in answers)
        self._studies = bids_labels(row.study for row in answers if row.study is not None)
        self.participants = len(self._patients)

    def write(
        self,
        path: Path,
        answers: Iterable[SeriesRow],
        columns: Sequence[BidsColumn],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a table, sorted, and its JSON, which begins with what is said `about` all of it."""
        rows = sorted(map(self._labelled, answers), key=_order)
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write("\t".join(column.name for column in columns) + "\n")
            for row in rows:
                stream.write("\t".join(column.cell(row) for column in columns) + "\n")
        _write_json(path.with_suffix(".json"), {**(about or {}), **sidecar(columns)})

    def _labelled(self, answer: SeriesRow) -> BidsRow:
        return BidsRow(
            answer,
            f"sub-{self._patients[_participant(answer)]}",
            None if answer.study is None else f"ses-{self._studies[answer.study]}",
            answer.is_complete(self._request.now_us, self._request.quiet_us),
        )


def _once(answers: Iterable[SeriesRow]) -> list[SeriesRow]:
    """Return the last answer of each model where it judged on several engines; they come oldest first."""
    last = {}
    for answer in answers:
        whose = answer.id if answer.grouping is Grouping.SERIES else _participant(answer)
        last[whose, answer.weights_sha256] = answer
    return list(last.values())


def _participant(answer: SeriesRow) -> str:
    """Return what a participant is called by; a series of an unknown patient is one of its own."""
    return f"\0{answer.name}" if answer.patient is None else answer.patient


def _order(row: BidsRow) -> tuple[str, str, str, str]:
    return row.participant, row.session or "", row.answer.name, row.answer.weights_sha256


def _meanings(models: Iterable[str], request: BidsRequest) -> dict[str, str]:
    """Return what the classes stand for; a model that is not at hand says nothing."""
    found: dict[str, str] = {}
    for sha256 in models:
        spec = request.spec(sha256)
        for name in () if spec is None else spec.classes:
            found.setdefault(printable(name), printable(spec.meanings.get(name, name)) if spec else name)
    return found


def _description(models: Sequence[SeriesRow]) -> dict[str, Any]:
    program = {
        "Name": DISTRIBUTION,
        "Version": program_version(),
        "Description": f"Watches folders and judges brain-MRI slices. {DISCLAIMER}",
    }
    judges = [
        {
            "Name": printable(model.model),
            "Version": printable(model.model_version),
            "Description": _model_words(model),
        }
        for model in models
    ]
    return {
        "Name": f"Series judged by {DISTRIBUTION}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [program, *judges],
    }


def _model_words(model: SeriesRow) -> str:
    score = score_of(model)
    words = (
        f"{printable(model.model)} {printable(model.model_version)}, weights sha256 {model.weights_sha256}"
    )
    return f"{words}; score: {score}" if score else words


def _table_name(model: SeriesRow) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "-", model.model).strip("-") or "model"
    return f"{name}-{model.weights_sha256[:SHORT_HASH]}"


def _readme() -> str:
    return f"""# Series judged by {DISTRIBUTION}

{DISCLAIMER}

- `series.tsv`: one row for each series and model; `series.json` says what its columns mean. BIDS has no table
  of series yet, so `.bidsignore` names it.
- `phenotype/`: one table for each model with one row for each participant. A participant's answer is that of
  the series with the highest score.

Participants and sessions are called as in the names of the files they were read from, or by pseudonyms: keyed
hashes, the same for the same patient in all that one installation writes and different in another's.
"""


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _remove_stale(folder: Path, names: Iterable[str]) -> None:
    """Remove the tables of models that are no longer in the dataset; other files stay."""
    written = {f"{name}{suffix}" for name in names for suffix in (".tsv", ".json")}
    for path in folder.iterdir():
        if _MODEL_TABLE.search(path.name) and path.name not in written:
            os.unlink(path)
