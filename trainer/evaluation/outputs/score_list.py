"""A list of judged images with their scores, as CSV or Parquet: a row an image, and a model."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from config.errors import UsageError
from config.extras import package_hint
from config.files import atomic_write
from config.text import printable
from trainer.evaluation.outputs.judged_set import JudgedSet
from trainer.model.prediction import Verdict

_ENDINGS: Final = (".csv", ".parquet")


def check_list(path: Path) -> None:
    """Raise UsageError unless a list can be written to `path`, before anything is computed."""
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(
            f"{printable(str(path))} ends in neither .csv nor .parquet",
            hint="name the list --list FILE.csv or FILE.parquet",
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"no folder at {printable(str(path.parent))}", hint="make it, or give another --list"
        )
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise UsageError(
                "Parquet needs the package pyarrow, which is not installed",
                hint=f"{package_hint('pyarrow')}, or name the list FILE.csv",
            ) from None


def write_list(judged: Sequence[JudgedSet], path: Path) -> int:
    """Write every image's scores by every model; return the number of rows. Raises OSError.

    Columns: model, file (below its root's parent), group (its images stand or fall together), label,
    score.CLASS for each class (calibrated probability), predicted (also of what is rejected), distance
    (Mahalanobis, empty without a limit), verdict and rejected.
    """
    rows = [row for one in judged for row in _rows(one)]
    names = list(rows[0])
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({name: [row[name] for row in rows] for name in names})
        with atomic_write(path) as stream:
            pq.write_table(table, stream, compression="zstd")
        return len(rows)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as text:
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
    return len(rows)


def _rows(judged: JudgedSet) -> Iterator[dict[str, Any]]:
    given, classes = judged.given, judged.classes
    for number, prediction in enumerate(judged.predictions):
        scores = zip(classes, prediction.probabilities, strict=True)
        yield {
            "model": judged.name,
            "file": printable(judged.dataset.files[number].name),
            "group": int(judged.groups[number]),
            "label": classes[judged.labels[number]],
            **{f"score.{name}": round(score, 6) for name, score in scores},
            "predicted": classes[given[number]],
            "distance": prediction.distance,
            "verdict": str(prediction.verdict),
            "rejected": prediction.verdict == Verdict.REJECTED,
        }
