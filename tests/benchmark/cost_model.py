"""What judging very many images costs: processor, network and disk of an image, and of 10^7 and 10^8.

    python -m tests.benchmark.cost_model [--images 3000] [--json FILE] [--picture FILE]

Measured here: decoding and the network of several kinds of file, the CPU of the daemon's own process. What
the way to other machines costs is read from what `python -m tests.scale_harness` has measured, the size of a
row from a database of 10^7. The rest is multiplication; the tables of daemon/SCALE.md are made of it. On a
busy machine CPU times grow too: cores share caches and clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmark.cost_page import rewritten
from tests.benchmark.cost_picture import picture
from tests.benchmark.files import fill
from tests.benchmark.limit import limit
from tests.conftest import REPOSITORY, SHARED
from tests.harness.scale.cluster import process_cpu
from tests.support.daemons import count, running, until
from tests.support.dicom_objects import mr_slice
from trainer.model.identity import default_weights

_MEASURED = REPOSITORY / "tests" / "measured"
_PAGE = REPOSITORY / "daemon" / "SCALE.md"
_SAMPLE = 400  # files of a kind; what is measured is an average
_TOTALS = (10**7, 10**8)
_BUSY_SHARE = 0.7  # of one core that a process which must not fall behind may be busy
_NODE_CORES = 16


def main() -> int:
    """Measure, multiply, and write figures and picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=3000, help="through a whole daemon, for its own share")
    parser.add_argument("--json", type=Path, default=_MEASURED / "cost-model.json")
    parser.add_argument("--picture", type=Path, default=REPOSITORY / "daemon" / "scale.svg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bt-cost-") as name:
        told = _measured(Path(name), options.images)
    told |= modelled(told)
    print(json.dumps(told, indent=1))
    options.json.write_text(json.dumps(told, indent=1) + "\n")
    options.picture.write_text(picture(told))
    _PAGE.write_text(rewritten(_PAGE.read_text(), told))
    return 0


def _measured(folder: Path, images: int) -> dict[str, Any]:
    weights, cores = default_weights(), len(os.sched_getaffinity(0))
    kinds = {}
    for name, write in KINDS.items():
        place = folder / name.replace(" ", "-")
        write(place)
        parts = limit(weights, place, folder / "cache", cores)
        kinds[name] = {
            "bytes": round(sum(file.stat().st_size for file in place.iterdir()) / _SAMPLE),
            "decode_cpu_ms": round(parts["decode_cpu_seconds"] * 1e3, 3),
            "forward_cpu_ms": round(parts["forward_cpu_seconds"] * 1e3, 3),
        }
    return {
        "command": " ".join(["python -m tests.benchmark.cost_model", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": cores,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kinds": kinds,
        **_daemon(folder, images),
        "remote": _remote(),
    }


def _jpeg(side: int) -> Callable[[Path], None]:
    data = SHARED / "data"
    return lambda place: print(fill(place, _SAMPLE, side, data if data.is_dir() else None), file=sys.stderr)


def _dicom(place: Path) -> None:
    place.mkdir()
    for number in range(_SAMPLE):
        mr_slice(number, size=512).save_as(place / f"{number:06}.dcm", enforce_file_format=True)


KINDS: dict[str, Callable[[Path], None]] = {
    "JPEG 224 x 224": _jpeg(224),
    "JPEG 512 x 512": _jpeg(512),
    "DICOM 512 x 512": _dicom,
}


def _daemon(folder: Path, images: int) -> dict[str, Any]:
    """Return what a whole daemon with its lanes here takes an image: CPU of its own process."""
    inbox, staged, database = folder / "inbox", folder / "staged", folder / "results.db"
    inbox.mkdir()
    data = SHARED / "data"
    fill(staged, images + 1, 224, data if data.is_dir() else None)
    (staged / "000000.jpg").rename(inbox / "first.jpg")
    with running(inbox, database=database) as daemon:
        until(lambda: count(database) == 1, 120)  # a lane is ready, all is imported
        before, began = process_cpu(daemon.process.pid), time.monotonic()
        staged.rename(inbox / "images")
        until(lambda: count(database) == images + 1, 600)
        spent, wall = process_cpu(daemon.process.pid) - before, time.monotonic() - began
    return {
        "images": images,
        "writer_cpu_ms": round(spent / images * 1e3, 4),
        "local_images_per_second": round(images / wall, 1),
        "row_bytes": round(json.loads((_MEASURED / "results-10m.json").read_text())[_ROW]),
    }


_ROW = "one row on disk, indexes and ledger included"


def _remote() -> dict[str, Any]:
    """Return what the way to other machines was measured to cost, {} if it was not."""
    try:
        many = json.loads((_MEASURED / "scale-8-workers.json").read_text())["many"]
    except OSError:
        return {}
    names = ("writer_cpu_ms_an_image", "carrier_cpu_ms_an_image", "network_bytes_an_image")
    return {name.removesuffix("_an_image"): many[name] for name in names}


def modelled(told: dict[str, Any]) -> dict[str, Any]:
    """Return what follows for many images, and where one writer can do no more.

    `told` holds milliseconds of CPU and bytes, each of one image, as `_measured` returns them.
    """
    remote = told["remote"]
    writer_ms = max(told["writer_cpu_ms"], remote.get("writer_cpu_ms", 0.0))
    speeds = {"writer": _BUSY_SHARE * 1e3 / writer_ms}
    if remote:
        speeds["carrier"] = _BUSY_SHARE * 1e3 / remote["carrier_cpu_ms"]
    bound = min(speeds, key=lambda name: speeds[name])
    ceiling = speeds[bound]
    kinds = {
        name: {
            "images_per_second_a_core": round(1e3 / _lane_ms(kind)),
            "cores_one_writer_feeds": round(ceiling * _lane_ms(kind) / 1e3),
            "megabytes_per_second_read_then": round(ceiling * kind["bytes"] / 1e6),
            **{f"{total:.0e}": _total(total, kind, told, ceiling) for total in _TOTALS},
        }
        for name, kind in told["kinds"].items()
    }
    return {"ceiling_images_per_second": round(ceiling), "ceiling_set_by": bound, "model": kinds}


def _lane_ms(kind: dict[str, float]) -> float:
    return kind["decode_cpu_ms"] + kind["forward_cpu_ms"]


def _total(images: int, kind: dict[str, float], told: dict[str, Any], ceiling: float) -> dict[str, float]:
    core_hours = images * _lane_ms(kind) / 3.6e6
    return {
        "core_hours": round(core_hours),
        f"hours_on_ten_nodes_of_{_NODE_CORES}": round(
            max(core_hours / (10 * _NODE_CORES), images / ceiling / 3600), 1
        ),
        "least_hours_with_one_writer": round(images / ceiling / 3600, 1),
        "read_gb": round(images * kind["bytes"] / 1e9),
        "head_traffic_gb": round(images * told["remote"].get("network_bytes", 0) / 1e9, 1),
        "database_gb": round(images * told["row_bytes"] / 1e9, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
