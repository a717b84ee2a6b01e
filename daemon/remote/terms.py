"""Terms of joining: what a worker must offer so that its answers are those of the head itself.

The rows of one model are of one engine and precision (`model` is unique by them), so an answer that was
computed otherwise would be another model's. Nothing here is negotiated: equal, or refused in one line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from config.text import printable
from daemon.version import program_version
from daemon.workers.messages import WorkerSetup
from trainer.images.picture import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.engines.manifest import PreparedEngine

# Raised whenever one side would misunderstand the other.
PROTOCOL = 1


@dataclass(frozen=True, slots=True)
class Computed:
    """Everything that an answer depends on, apart from the image."""

    weights_sha256: str
    engine: str  # "openvino" or "torch"
    precision: str  # "fp32" or "bf16"
    device: str  # "cpu" or "cuda": which one of them does not matter

    @classmethod
    def of(cls, prepared: PreparedEngine) -> Computed:
        """Return what an engine of this machine computes."""
        device = prepared.device.partition(":")[0]
        return cls(prepared.weights_sha256, prepared.kind, prepared.precision, device)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the head asks of whoever joins, and what it then tells."""

    version: str
    protocol: int
    computed: Computed
    roots: tuple[bytes, ...]  # inboxes and the folder of heatmaps
    limits: Limits
    batch: int  # of a CPU's engine
    memory_bytes: int
    heatmaps: str
    request_seconds: float
    decode_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return them as plain values, without what is asked for of each root."""
        told = asdict(self)
        del told["roots"]
        return told

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Terms:
        """Return the terms a head has told; raise ValueError if they are none."""
        try:
            known = {one.name for one in fields(cls)} - {"roots"}
            values = {name: told[name] for name in known}
            limits = {**values["limits"], "tags": tuple(values["limits"]["tags"])}
            return cls(**values | {"limits": Limits(**limits), "computed": Computed(**values["computed"]),
                                   "roots": ()})  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ValueError("no terms of a head") from error


def terms_of(setup: WorkerSetup, decode_seconds: float, roots: Sequence[bytes], batch: int) -> Terms:
    """Return the terms of a head whose own lanes would be set up so; `batch` is what a CPU's engine takes."""
    return Terms(
        program_version(),
        PROTOCOL,
        Computed.of(setup.prepared),
        tuple(roots),
        setup.limits,
        batch,
        setup.memory_bytes,
        setup.heatmaps,
        setup.request_seconds,
        decode_seconds,
    )


def other_program(version: object, protocol: object) -> str:
    """Return why a worker of this version is refused, '' if it is the head's own."""
    ours = program_version()
    if protocol != PROTOCOL:
        return f"it speaks protocol {printable(str(protocol)[:20])}, the daemon {PROTOCOL} (version {ours})"
    if version != ours:
        return f"its bt-daemon is {printable(str(version)[:40])}, the daemon's {ours}"
    return ""


def other_computation(wanted: Computed, offered: object) -> str:
    """Return why what a worker computes with is refused, '' if it is what the head asks for."""
    if not isinstance(offered, dict):
        return "it does not say what it computes with"
    names = {"weights_sha256": "weights", "engine": "engine", "precision": "precision", "device": "device"}
    for field, name in names.items():
        theirs, ours = str(offered.get(field)), str(getattr(wanted, field))
        if theirs != ours:
            length = 8 if field == "weights_sha256" else 20
            return f"its {name} is {printable(theirs[:length])}, the daemon's {ours[:length]}"
    return ""
