"""Which engines of a lower precision a network allows: as low as agrees with the reference.

A whole network in bfloat16 or int8 may change answers. Then what minds most stays more precise: the
network's beginning in float32, the most sensitive convolutions out of int8.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daemon.engine import PreparedEngine
from daemon.engine_openvino import MODEL, OpenVinoEngine, openvino
from daemon.mixed_precision import cuts, divided
from daemon.quantise import Quantised, quantised


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that was tried."""

    prepared: PreparedEngine
    engine: OpenVinoEngine
    difference: str  # in words, "" if it agrees with the reference
    label: str  # what it computes in, for people


class Workshop:
    """The folder in which engines of one network are made and compared with the reference."""

    def __init__(self, blank: PreparedEngine, differs: Callable[[OpenVinoEngine], str]) -> None:
        self.folder = Path(blank.folder)
        self.whole = openvino.Core().read_model(str(self.folder / MODEL))
        self._blank = blank
        self._differs = differs

    def tried(self, precision: str, parts: Mapping[str, str], label: str = "") -> Candidate:
        """Open an engine of parts in the folder (file -> precision of what is not in int8) and compare."""
        prepared = replace(self._blank, precision=precision, parts=dict(parts))
        engine = OpenVinoEngine(prepared)
        return Candidate(prepared, engine, self._differs(engine), label or precision)

    def write(self, model: Any, name: str) -> str:
        """Write a part and return its name; compiled forms of what had that name before are forgotten."""
        shutil.rmtree(self.folder / "compiled", ignore_errors=True)
        openvino.save_model(model, str(self.folder / name), compress_to_fp16=False)
        return name


def in_float32(workshop: Workshop) -> tuple[list[Candidate], list[str]]:
    """Return the engine that computes all in float32 if it agrees, and what there is to tell."""
    return _agreeing(workshop.tried("fp32", {MODEL: "fp32"}))


def in_bfloat16(workshop: Workshop) -> tuple[list[Candidate], list[str]]:
    """Return the engine with as much in bfloat16 as agrees, and what there is to tell."""
    whole = workshop.tried("bf16", {MODEL: "bf16"})
    if not whole.difference:
        return [whole], []
    agreeing, told = _agreeing(_with_exact_beginning(workshop, "bf16", "bf16", lambda part: part))
    return agreeing, [f"bf16 from the first layer on: {whole.difference}", *told]


def in_int8(workshop: Workshop, layers: Sequence[Quantised]) -> tuple[list[Candidate], list[str]]:
    """Return the engines with as many convolutions in int8 as agree, and what there is to tell.

    `layers` are sorted, the most sensitive first. What is not in int8 is in float32 in the first engine,
    in the second in bfloat16, with a beginning in float32 if need be.
    """
    first, kept = _with_exact_layers(workshop, layers)
    told = [f"int8 in all {len(layers)} convolutions: {first.difference}"] if first.difference else []
    if kept == len(layers):
        return [], [*told, "int8 refused: no convolution of it can be in int8"]
    chosen = layers[kept:]
    name = workshop.write(quantised(workshop.whole, chosen), "model.int8.xml")
    slow = workshop.tried("int8", {name: "fp32"}, "int8+fp32")
    quick = workshop.tried("int8", {name: "bf16"}, "int8+bf16")
    if quick.difference:
        quick = _with_exact_beginning(workshop, "int8", "int8+bf16", lambda part: quantised(part, chosen))
    if not slow.engine.convolutions_in_int8():
        return [], [*told, "int8 refused: this processor computes none of it in int8"]
    told.append(f"int8 in {slow.engine.convolutions_in_int8()} of {len(layers)} convolutions")
    agreeing = [one for one in (slow, quick) if not one.difference]
    return agreeing, told


def _agreeing(one: Candidate) -> tuple[list[Candidate], list[str]]:
    return ([], [f"{one.label} refused: {one.difference}"]) if one.difference else ([one], [])


def _with_exact_layers(workshop: Workshop, layers: Sequence[Quantised]) -> tuple[Candidate, int]:
    """Return the engine with all layers in int8, and how many of the first must stay out of it to agree.

    By bisection: the fewer are in int8, the smaller the difference, but for small disorder.
    """

    def tried(kept: int) -> Candidate:
        name = workshop.write(quantised(workshop.whole, layers[kept:]), "model.int8.xml")
        return workshop.tried("int8", {name: "fp32"})

    first = tried(0)
    return first, _first_agreeing(tried, 1, len(layers)) if first.difference else 0


def _first_agreeing(tried: Callable[[int], Candidate], low: int, high: int) -> int:
    """Return the smallest place in low..high whose engine agrees, by bisection; `high` if none does."""
    while low < high:
        middle = (low + high) // 2
        if tried(middle).difference:
            low = middle + 1
        else:
            high = middle
    return low


def _with_exact_beginning(
    workshop: Workshop, precision: str, label: str, change: Callable[[Any], Any]
) -> Candidate:
    """Keep as much of the beginning in float32 as it takes to agree; the rest is in bfloat16.

    `change` is applied to both parts. By bisection: the more of it is exact, the smaller the difference,
    but for small disorder.
    """

    def tried(place: int) -> Candidate:
        names = (f"model.{precision}.front.xml", f"model.{precision}.back.xml")
        for part, name in zip(divided(workshop.whole, places[place]), names, strict=True):
            workshop.write(change(part), name)
        return workshop.tried(precision, dict(zip(names, ("fp32", "bf16"), strict=True)), label)

    places = cuts(workshop.whole)
    if not places:
        return replace(workshop.tried(precision, {MODEL: "bf16"}, label), difference="it cannot be divided")
    return tried(min(_first_agreeing(tried, 0, len(places)), len(places) - 1))
