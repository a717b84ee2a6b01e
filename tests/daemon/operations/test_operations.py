"""Files for operators: every metric they name exists, every alert fires when it should, and no other time."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from daemon.cli import cli, main
from daemon.operations.shipped import SHIPPED, shipped_text
from daemon.views.daemon_status import daemon_status
from daemon.views.health_check import health
from daemon.web.daemon_metrics import metrics
from daemon.web.exposition import exposition
from storage.ledger.heartbeat import Counts, Heartbeat
from storage.lock import LockHolder
from storage.queries.status import StatusSnapshot
from storage.queries.totals import ModelSummaryRow
from storage.records import Status

ALERTS = {rule["alert"]: rule for rule in yaml.safe_load(shipped_text("alerts.yml"))["groups"][0]["rules"]}
DASHBOARD = json.loads(shipped_text("dashboard.json"))
# Labels that Prometheus adds to whatever it scrapes.
OF_PROMETHEUS = {"instance", "job"}
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian's package prometheus)")


def _told() -> dict[str, dict[str, set[str]]]:
    """Return what /metrics gives of a daemon that says everything: name -> label -> its values."""
    now_us = time.time_ns() // 1000
    drift = {
        name: {"state": "steady", "images": 900, "index": 0.02} for name in ("score", "distance", "rejected")
    }
    snapshot: dict[str, Any] = {
        "inboxes": [{"path": "/in", "state": "watching", "last_scan_us": now_us}],
        "engine": {"name": "openvino", "precision": "bf16"}, "model": {"weights_sha256": "ab" * 32},
        "results": [["ok", "yes", 3], ["uncertain", "no", 2]],
        "workers": {"wanted": 2, "ready": 2, "stuck": 0},
        "counters": {"store_failures": 0}, "lane_restarts": 0, "drift": {"findings": drift},
    }  # fmt: skip
    beat = Heartbeat("host", 7, now_us, now_us, None, snapshot)
    kinds = (ModelSummaryRow("m", "1", "ab" * 32, "yes", Status.OK, 3),)
    stored = StatusSnapshot(
        beat, Counts(0, 0, 0, 0, None), 3, None, {Status.OK: 3}, kinds, 3, now_us, {}
    )  # fmt: skip
    status = daemon_status(stored, LockHolder(7), "r.db", now_us)
    text = exposition(metrics(status, health(status, UTC), (1 << 30, 1 << 40)))
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


TOLD = _told()


def _expressions() -> Iterator[tuple[str, str]]:
    for name, rule in ALERTS.items():
        yield name, rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(_expressions()))
def test_every_metric_label_and_word_of_an_expression_is_what_the_daemon_gives(
    where: str, expression: str
) -> None:
    names = re.findall(r"(btdaemon_\w+)(?:\{([^}]*)\})?", expression)

    assert names
    used: set[str] = set()
    for name, matchers in names:
        assert name in TOLD
        used |= TOLD[name].keys()
        for label, operator, value in re.findall(r'(\w+)(=~?|!=)"([^"]*)"', matchers):
            assert label in TOLD[name].keys() | OF_PROMETHEUS
            assert operator == "=~" or value in TOLD[name][label]
    for grouped in re.findall(r"\b(?:by|on|ignoring|without) \(([^)]*)\)", expression):
        assert {word.strip() for word in grouped.split(",")} <= used | OF_PROMETHEUS


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_name_a_wait_a_severity_and_words_about_labels_that_exist(name: str) -> None:
    rule = ALERTS[name]

    assert name.startswith("BtDaemon")
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+(s|m|h|d)", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description"}
    words = " ".join(rule["annotations"].values())
    used = set().union(*(TOLD[one].keys() for one in re.findall(r"btdaemon_\w+", rule["expr"])))
    assert set(re.findall(r"\$labels\.(\w+)", words)) <= used | OF_PROMETHEUS
    for command in re.findall(r"`bt-daemon (\w+)", words):
        assert cli.get_command(None, command) is not None  # type: ignore[arg-type]


def test_panels_stand_beside_each_other_and_name_the_data_source_that_is_chosen() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24  # a dashboard's width
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}


def test_compose_runs_commands_that_exist_and_gives_prometheus_the_token_it_asks_for() -> None:
    compose = yaml.safe_load(shipped_text("compose.yml"))
    services = compose["services"]
    scrape = yaml.safe_load(shipped_text("prometheus.yml"))

    for name in ("daemon", "web"):
        first, *rest = services[name]["command"]
        command = cli.get_command(None, first)  # type: ignore[arg-type]
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options
    (target,) = scrape["scrape_configs"][0]["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in services
    assert host in services["web"]["command"][-1].split(",")  # else the page refuses that name
    assert services["web"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    secret = Path(scrape["scrape_configs"][0]["authorization"]["credentials_file"])
    assert secret.parent == Path("/run/secrets")
    assert services["prometheus"]["secrets"] == [secret.name]
    assert compose["secrets"][secret.name]["environment"] in services["web"]["environment"]
    mounted = {volume.split(":")[0] for volume in services["prometheus"]["volumes"]}
    assert {"./prometheus.yml", "./alerts.yml", "metrics"} == mounted
    assert scrape["rule_files"] == ["alerts.yml"]


OLDEST = "btdaemon_oldest_pending_seconds"
OK, ERRORS, REJECTED = (
    f'btdaemon_results_total{{status="{status}",class="{label}"}}'
    for status, label in (("ok", "no"), ("error", ""), ("rejected", ""))
)
# Days of samples: an hour apart instead of a minute.
INTERVALS = {"BtDaemonRejectedDoubled": "1h"}
# What is scraped every minute for the alert, when it is asked, and whether it fires.
CASES: dict[str, list[tuple[dict[str, str], str, bool]]] = {
    "BtDaemonNotScraped": [({"other": "1x10"}, "6m", True), ({"btdaemon_up": "0x10"}, "6m", False)],
    "BtDaemonDown": [
        ({"btdaemon_up": "0x10"}, "2m", True),
        ({"btdaemon_up": "1x10", "btdaemon_heartbeat_age_seconds": "61x10"}, "2m", True),
        ({"btdaemon_up": "1x10", "btdaemon_heartbeat_age_seconds": "5x10"}, "2m", False),
    ],
    "BtDaemonStuck": [
        ({OLDEST: "0+60x40", OK: "7x40"}, "30m", True),
        ({OLDEST: "0+60x40", OK: "0+9x40"}, "30m", False),  # a backlog that is being worked off
        ({OLDEST: "0x40", OK: "7x40"}, "30m", False),
    ],
    "BtDaemonDegraded": [
        ({'btdaemon_health{state="degraded"}': "1x10"}, "6m", True),
        ({'btdaemon_health{state="degraded"}': "1x2 0x8"}, "6m", False),
        ({'btdaemon_health{state="degraded"}': "0x10", 'btdaemon_health{state="down"}': "1x10"}, "6m", False),
    ],
    "BtDaemonErrors": [
        ({ERRORS: "0+1x120", OK: "0+9x120"}, "90m", True),
        ({ERRORS: "0+1x120", OK: "0+99x120"}, "90m", False),
        ({ERRORS: "0x50 1x70", OK: "0x50 1x70"}, "90m", False),  # half of two images prove nothing
    ],
    "BtDaemonRejectedDoubled": [
        ({REJECTED: "0+60x192 11760+240x24", OK: "0+1800x216"}, "215h", True),
        ({REJECTED: "0+60x216", OK: "0+1800x216"}, "215h", False),
        ({REJECTED: "0+0x192 0+0.5x24", OK: "0+1800x216"}, "215h", False),  # twelve images in a day
    ],
    "BtDaemonDrift": [
        ({'btdaemon_drift{statistic="score"}': "1x20"}, "16m", True),
        ({'btdaemon_drift{statistic="score"}': "0x20"}, "16m", False),
    ],
    "BtDaemonWorkersReplaced": [
        ({"btdaemon_lane_restarts_total": "0+1x30"}, "20m", True),
        ({"btdaemon_lane_restarts_total": "3x30"}, "20m", False),
    ],
    "BtDaemonDiskFillsUp": [
        ({"btdaemon_disk_free_bytes": "4e9x20", "btdaemon_disk_size_bytes": "1e11x20"}, "6m", True),
        ({"btdaemon_disk_free_bytes": "9e8x20", "btdaemon_disk_size_bytes": "1e10x20"}, "6m", True),
        ({"btdaemon_disk_free_bytes": "6e9x20", "btdaemon_disk_size_bytes": "1e11x20"}, "6m", False),
    ],
}  # fmt: skip


def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    assert CASES.keys() == ALERTS.keys()
    assert all({fires for _, _, fires in cases} == {True, False} for cases in CASES.values())


@needs_promtool
def test_promtool_takes_the_rules_and_the_configuration(tmp_path: Path) -> None:
    assert main(["service", "files", str(tmp_path)]) == 0

    for arguments in (["rules", "alerts.yml"], ["config", "--syntax-only", "prometheus.yml"]):
        _promtool(tmp_path, "check", *arguments)


@needs_promtool
@pytest.mark.parametrize("name", CASES)
def test_alert_fires_on_what_it_is_about_and_on_nothing_else(name: str, tmp_path: Path) -> None:
    """Evaluated by Prometheus itself (`promtool test rules`)."""
    (tmp_path / "alerts.yml").write_text(shipped_text("alerts.yml"))
    tests, interval = [], INTERVALS.get(name, "1m")
    for series, at, fires in CASES[name]:
        given = [{"series": _with_instance(one), "values": values} for one, values in series.items()]
        asked = {"expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})', "eval_time": at}
        expected = [{"labels": "{}", "value": 1}] if fires else []
        tests.append(
            {
                "interval": interval,
                "input_series": given,
                "promql_expr_test": [asked | {"exp_samples": expected}],
            }
        )
    cases = {"rule_files": ["alerts.yml"], "evaluation_interval": interval, "tests": tests}
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases))

    _promtool(tmp_path, "test", "rules", "cases.yml")


def _promtool(folder: Path, *arguments: str) -> None:
    command = [str(PROMTOOL), *arguments]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _with_instance(series: str) -> str:
    name, _, labels = series.partition("{")
    return f'{name}{{instance="here:8321"{"," + labels if labels else "}"}'


def test_files_are_listed_printed_and_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "monitoring"

    codes = [main(["service", "files", *arguments]) for arguments in ([], ["--print", "alerts.yml"])]
    listed = capsys.readouterr().out
    codes += [main(["service", "files", str(folder)]) for _ in range(2)]
    said = capsys.readouterr().out

    assert codes == [0, 0, 0, 0]
    assert all(name in listed for name in SHIPPED)
    assert shipped_text("alerts.yml") in listed
    assert {path.name: path.read_text() for path in folder.iterdir()} == {n: shipped_text(n) for n in SHIPPED}
    assert said == f"4 written to {folder}, 0 were there\n0 written to {folder}, 4 were there\n"


def test_a_file_that_somebody_changed_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alerts.yml").write_text("mine")

    code = main(["service", "files", str(tmp_path)])

    assert code == 2
    assert (tmp_path / "alerts.yml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["alerts.yml"]
    assert "differs from the file that comes with this version" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--print", "alarms.yml"], 2, "there is no file alarms.yml; there are alerts.yml, "),
        (["--print", "alerts.yml", "here"], 2, "a folder and --print are two things"),
        (["/proc/none"], 1, "cannot write to /proc/none"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["service", "files", *arguments]) == code

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told
