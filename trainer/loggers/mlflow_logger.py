"""MLflow: a run's options, curves, figures and charts, in a local SQLite store unless told otherwise."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from config.files import atomic_write
from trainer.loggers.epoch_scalars import epoch_scalars
from trainer.training.callbacks import RunEnd, RunStart
from trainer.training.config import Epoch

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "bt-train"
# The run's id, by which a resume goes on with it.
ID_FILE = "mlflow.id"
STORE = "mlflow.db"  # beside the run folders, so that `mlflow ui` shows all of them
_LONGEST = 500  # characters of a parameter
# Charts only: MLflow may be a server, and pictures of patients stay where they are.
CHARTS = ("curves.png", "confusion.png", "scores.png")


class MLflowLogger:
    """Logs to MLFLOW_TRACKING_URI, else to mlflow.db beside the run's folder."""

    name = "mlflow"

    def __init__(self) -> None:
        self._client: MlflowClient | None = None
        self._run = ""
        self._known: dict[str, set[int]] = {}  # metric -> steps that are stored already

    def on_start(self, start: RunStart) -> None:
        """Begin a run, or go on with that of this folder and add the epochs that it lacks."""
        # Its log of migrations, and what it would tell its makers.
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        beside = start.folder.resolve().parent
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{beside / STORE}"
        self._client = client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        local = None if os.environ.get("MLFLOW_TRACKING_URI") else (beside / "mlartifacts").as_uri()
        place = found.experiment_id if found else client.create_experiment(EXPERIMENT, local)
        self._run = self._begun(start, place)
        logged = client.get_run(self._run).data.params  # a parameter stays as it was logged first
        for name, value in start.options.items():
            if name not in logged:
                client.log_param(self._run, name, str(value)[:_LONGEST])
        for epoch in start.history:
            self.on_epoch(epoch, best=False)

    def on_epoch(self, epoch: Epoch, *, best: bool) -> None:
        """Log an epoch's scalars."""
        del best
        for name, value in epoch_scalars(epoch).items():
            self._log(name, value, epoch.epoch)

    def on_end(self, end: RunEnd) -> None:
        """Log the figures of the validation images and the charts, and end the run."""
        best = int(end.figures()["best_epoch"])
        for name, value in end.figures().items():
            self._log(f"validation/{name}", value, best)
        for chart in CHARTS:
            if (end.folder / chart).exists():
                self._open.log_artifact(self._run, str(end.folder / chart))
        self._open.set_terminated(self._run)

    def close(self) -> None:
        """Do nothing: a run that was interrupted stays open for its resume."""

    @property
    def _open(self) -> MlflowClient:
        assert self._client is not None
        return self._client

    def _begun(self, start: RunStart, experiment: str) -> str:
        """Return the id of this folder's run, which is made if there is none to go on with."""
        path = start.folder / ID_FILE
        if start.history and path.exists():
            run: str = self._open.get_run(path.read_text().strip()).info.run_id
            self._open.update_run(run, status="RUNNING")
        else:
            run = self._open.create_run(experiment, run_name=start.folder.name).info.run_id
            with atomic_write(path, mode=0o644) as stream:
                stream.write(f"{run}\n".encode())
        return run

    def _log(self, name: str, value: float, step: int) -> None:
        if name not in self._known:
            self._known[name] = {metric.step for metric in self._open.get_metric_history(self._run, name)}
        if step not in self._known[name]:
            self._open.log_metric(self._run, name, value, step=step)
            self._known[name].add(step)
