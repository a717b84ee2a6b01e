"""Setup of the bridge: where it listens, and what it tells workers. Imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.remote.head_address import HeadAddress
    from daemon.remote.terms import Terms


@dataclass(frozen=True, slots=True)
class BridgeSetup:
    """What the bridge is told at its start."""

    address: HeadAddress
    key: str  # PEM file with certificate and key, "" for none
    terms: Terms
    weights: str  # file, for workers that lack it
    secret: bytes = field(repr=False)  # of pseudonyms
