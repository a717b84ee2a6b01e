"""Look up the model of a database's row by its hash: the one that judged a row explains it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.foreign.adoption import adopted_file
from daemon.model_store import find_model, models_folder
from storage.database import stand_in

if TYPE_CHECKING:
    from config.settings import Settings
    from daemon.engines.manifest import PreparedEngine
    from trainer.model.spec import ModelSpec

NOT_HERE = "its weights file is not kept beside the database, and the weights at hand are another model's"


class ModelsAtHand:
    """Finds weights, specs and engines by the weights' sha256; may be asked from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._database = stand_in(settings.db)
        self._given = Path(settings.weights) if settings.weights and not settings.spec else None
        self._cache = Path(settings.cache)
        self._lock = threading.Lock()
        self._found: dict[str, Path] = {}
        self._missing: dict[str, int] = {}  # -> when the folder of kept models last changed, as it was then
        self._specs: dict[str, ModelSpec | None] = {}

    def weights(self, sha256: str) -> Path | None:
        """Return the model's file, None if it is not here; one that a daemon keeps later is found then."""
        with self._lock:
            if sha256 in self._found:
                return self._found[sha256]
            changed = self._folder_changed()
            if self._missing.get(sha256) == changed:
                return None
            found = find_model(sha256, self._database, self._given or adopted_file(self._cache, sha256))
            if found is None:
                self._missing[sha256] = changed
            else:
                self._found[sha256] = found
            return found

    def spec(self, sha256: str) -> ModelSpec | None:
        """Return what the model is, None if its file is not here or cannot be read."""
        from config.errors import WeightsError
        from trainer.model.weights import read_spec

        weights = self.weights(sha256)
        if weights is None:
            return None
        if sha256 not in self._specs:
            try:
                self._specs[sha256] = read_spec(weights)
            except WeightsError:  # of another version of this program
                self._specs[sha256] = None
        return self._specs[sha256]

    def card(self, sha256: str) -> dict[str, float]:
        """Return a model's figures on its validation images by name, {} of a model that is not here."""
        spec = self.spec(sha256)
        measured = {} if spec is None else spec.provenance.metrics.get("validation", {})
        values = {name: one.get("value") for name, one in measured.items() if isinstance(one, dict)}
        return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}

    def engine(self, sha256: str) -> PreparedEngine | None:
        """Return what draws the model's heatmaps, None if its file is not here."""
        from daemon.engines.cache import engine_for_drawing

        weights = self.weights(sha256)
        return None if weights is None else engine_for_drawing(weights, sha256, self._cache)

    def _folder_changed(self) -> int:
        try:
            return models_folder(self._database).stat().st_mtime_ns
        except OSError:
            return -1
