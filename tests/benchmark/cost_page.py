"""Tables of the cost model on the page that plans with it, written by the command that measures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BEGIN, _END = "<!-- begin of the cost model's tables -->", "<!-- end of the cost model's tables -->"


def rewritten(page: str, told: dict[str, Any]) -> str:
    """Return a page with the tables between its two marks made anew; raise ValueError if it has none."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError("the page has no place for the tables")
    return "\n".join([before + _BEGIN, "", *_lines(told), "", _END]) + after


def _lines(told: dict[str, Any]) -> Iterator[str]:
    remote = told["remote"]
    yield "| one image | bytes | decoding, ms | network, ms | images/s a core | cores a writer feeds |"
    yield "|---|---|---|---|---|---|"
    for name, kind in told["kinds"].items():
        model = told["model"][name]
        yield (
            f"| {name} | {kind['bytes']:,} | {kind['decode_cpu_ms']:.2f} | {kind['forward_cpu_ms']:.2f} |"
            f" {model['images_per_second_a_core']:,} | {model['cores_one_writer_feeds']:,} |"
        )
    yield ""
    yield "| of every image | |"
    yield "|---|---|"
    yield f"| CPU of the daemon's own process, its lanes here | {told['writer_cpu_ms']:.2f} ms |"
    if remote:
        yield f"| the same, workers elsewhere | {remote['writer_cpu_ms']:.2f} ms |"
        yield f"| CPU of its process that speaks Dask | {remote['carrier_cpu_ms']:.2f} ms |"
        yield f"| to and from workers over the network, with TLS | {remote['network_bytes']:,} bytes |"
    yield f"| row in the database, indexes and ledger included | {told['row_bytes']:,} bytes |"
    yield ""
    yield "| images | | core hours | read | hours, 160 cores | hours, the writer at its ceiling |"
    yield "|---|---|---|---|---|---|"
    for total, words in (("1e+07", "10⁷"), ("1e+08", "10⁸")):
        for name, model in told["model"].items():
            need = model[total]
            yield (
                f"| {words} | {name} | {need['core_hours']:,} | {need['read_gb']:,} GB |"
                f" {need['hours_on_ten_nodes_of_16']:g} | {need['least_hours_with_one_writer']:g} |"
            )
