"""`bt-train series`: rules that make one answer of a series' slices, on whole series and on blocks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from trainer.cli import main
from trainer.evaluation.series_rules import (
    RULES,
    best_run,
    compare_rules,
    mean_logit,
    middle_mean_logit,
    read_series,
    top_half,
)


def _write(folder: Path, series: dict[str, list[tuple[float, bool, bool]]]) -> tuple[Path, Path]:
    """Write predictions (score, has a tumour, inside the limit) of series named PATIENT_SEQUENCE."""
    predictions, groups = folder / "predictions.csv", folder / "groups.csv"
    with predictions.open("w", newline="") as stream, groups.open("w", newline="") as listed:
        rows, patients = csv.writer(stream), csv.writer(listed)
        rows.writerow(["file", "label", "round", "inside", "p_no", "p_yes"])
        patients.writerow(["file", "patient"])
        for name, slices in series.items():
            order = np.random.default_rng(0).permutation(len(slices))  # files come in any order
            for number in order.tolist():
                score, tumour, inside = slices[number]
                label = "yes" if tumour else "no"
                file = f"set/{label}/{name}_{number + 8}_x.jpg"  # 8, 9, 10: not in the order of letters
                rows.writerow([file, label, "r", int(inside), 1 - score, score])
                patients.writerow([file, name.split("_")[0]])
    return predictions, groups


def _heads(count: int, seed: int) -> dict[str, list[tuple[float, bool, bool]]]:
    """Return as many healthy series as with a tumour in six of 24 slices; scores tell slices roughly."""
    rng = np.random.default_rng(seed)
    series = {}
    for number in range(2 * count):
        tumours = np.zeros(24, dtype=bool)
        if number % 2:
            start = int(rng.integers(0, 18))
            tumours[start : start + 6] = True
        logits = rng.normal(np.where(tumours, 1.5, -1.5), 1.5)
        likely = 1 / (1 + np.exp(-logits))
        series[f"p{number}_t1"] = [(float(p), bool(t), True) for p, t in zip(likely, tumours, strict=True)]
    return series


def test_rules_are_what_their_names_say() -> None:
    scores = np.array([0.5, 0.9, 0.9, 0.9, 0.1, 0.5, 0.5, 0.5, 0.5, 0.5])

    assert best_run(scores) == pytest.approx(0.9)
    assert best_run(scores[:2]) == pytest.approx(0.7)
    assert mean_logit(scores) == pytest.approx(2 * np.log(9) / 10)
    assert middle_mean_logit(scores) == pytest.approx(np.log(9) / 6)  # 0.9, 0.9, 0.1 and three halves
    assert top_half(scores) == pytest.approx(3 * np.log(9) / 5)
    assert all(np.isfinite(rule(np.array([0.0, 1.0, 1.0]))) for rule in RULES.values())


def test_slices_of_a_series_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    slices = [(number / 10, False, True) for number in range(6)]

    (series,) = read_series(
        *_write(tmp_path, {"p_t1": slices, "q_t1": slices[:2]}), "yes"
    )  # two are no series

    assert series.patient == "p"
    assert series.scores.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_rejected_slices_have_no_vote_unless_all_were(tmp_path: Path) -> None:
    some = [(0.9, False, False), (0.2, False, True), (0.3, False, True)]
    none = [(0.9, False, False), (0.2, False, False), (0.3, False, False)]

    first, second = read_series(*_write(tmp_path, {"p_t1": some, "q_t1": none}), "yes")

    assert first.scores.tolist() == [0.2, 0.3]
    assert second.scores.tolist() == [0.9, 0.2, 0.3]


def test_rules_are_compared_on_series_and_on_blocks(tmp_path: Path) -> None:
    report = compare_rules(*_write(tmp_path, _heads(60, 0)), "yes")

    assert report["slices"]["count"] == 120 * 24
    assert set(report["rules"]) == {*RULES, "regression"}
    for figures in report["rules"].values():
        assert (figures["series"]["count"], figures["series"]["with_tumour"]) == (120, 60)
        assert (
            figures["blocks"]["with_tumour"] < figures["blocks"]["count"] < 5 * 60
        )  # of tumour patients only
    # A tumour in a quarter of the slices is lost in the mean, and found by its neighbours.
    best, mean = report["rules"]["best run of three"], report["rules"]["mean logit"]
    assert best["series"]["roc_auc"] > mean["series"]["roc_auc"] + 0.02
    regression = report["rules"]["regression"]
    assert regression["series"]["roc_auc"] > 0.9
    assert regression["blocks"]["roc_auc"] > 0.9


def test_nothing_is_learnt_by_the_regression_where_there_is_nothing_to_learn(tmp_path: Path) -> None:
    """It is judged on patients that it was not fitted on."""
    series = _heads(60, 1)
    rng = np.random.default_rng(2)
    shuffled = {
        name: [(float(rng.random()), tumour, inside) for _, tumour, inside in slices]
        for name, slices in series.items()
    }

    report = compare_rules(*_write(tmp_path, shuffled), "yes")

    assert 0.3 < report["rules"]["regression"]["series"]["roc_auc"] < 0.65


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, groups = _write(tmp_path, _heads(20, 0))
    options = ["series", "--predictions", str(predictions), "--groups", str(groups)]

    assert (main(options), main([*options, "--json"])) == (0, 0)

    table, _, rest = capsys.readouterr().out.partition("{")
    assert "best run of three" in table
    assert "40 series (20 with a tumour)" in table
    assert json.loads("{" + rest)["slices"]["count"] == 960


HEALTHY, ILL = [(0.5, False, True)] * 9, [(0.5, True, True)] * 9


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ({"p_t1": HEALTHY}, "no series with and without a tumour of two patients"),
        ({"p_t1": ILL, "p_t2": ILL, "q_t1": HEALTHY}, "no series with and without a tumour of two patients"),
        (
            {"p_t1": ILL, "q_t1": ILL, "r_t1": HEALTHY, "s_t1": HEALTHY},  # no slice of p and q is free of it
            "no blocks with and without a tumour of two patients",
        ),
    ],
)
def test_predictions_that_cannot_tell_are_one_line(
    tmp_path: Path,
    series: dict[str, list[tuple[float, bool, bool]]],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictions, groups = _write(tmp_path, series)

    code = main(["series", "--predictions", str(predictions), "--groups", str(groups)])

    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert said in line


def test_a_file_that_is_no_predictions_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, groups = _write(tmp_path, _heads(2, 0))

    code = main(["series", "--predictions", str(groups), "--groups", str(groups)])

    assert code == 2
    assert "lacks the columns file, label, inside, p_yes" in capsys.readouterr().err
    assert predictions.exists()
