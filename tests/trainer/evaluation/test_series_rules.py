"""`bt-train series`: rules that make one answer of a series' slices, on whole series and on blocks."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from trainer.cli import main
from trainer.evaluation.model_card import card_text
from trainer.evaluation.series_rules import RULES, best_run, compare_rules, loudest, middle_mean_logit
from trainer.evaluation.slices import Slices, read_predictions
from trainer.model.identity import default_weights
from trainer.model.weights import read_weights


def read_series(predictions: Path, groups: Path | None) -> list[Slices]:
    return read_predictions(predictions, groups, "yes").series()


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
    assert loudest(scores, 1.0) == pytest.approx(2 * np.log(9) / 10, abs=0.01)
    assert middle_mean_logit(scores) == pytest.approx(np.log(9) / 6)  # 0.9, 0.9, 0.1 and three halves
    assert loudest(scores, 0.5) == pytest.approx(3 * np.log(9) / 5, abs=0.03)
    assert all(np.isfinite(rule(np.array([0.0, 1.0, 1.0]))) for rule in RULES.values())


def test_slices_of_a_series_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    slices = [(number / 10, False, True) for number in range(6)]

    (series,) = read_series(*_write(tmp_path, {"p_t1": slices, "q_t1": slices[:2]}))  # two are no series

    assert series.patient == "p"
    assert series.scores.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_rejected_slices_have_no_vote_unless_all_were(tmp_path: Path) -> None:
    some = [(0.9, False, False), (0.2, False, True), (0.3, False, True)]
    none = [(0.9, True, False), (0.2, False, False), (0.3, False, False)]

    first, second = read_series(*_write(tmp_path, {"p_t1": some, "q_t1": none}))

    assert (first.scores.tolist(), first.rejected) == ([0.2, 0.3], False)
    assert (second.scores.tolist(), second.rejected) == ([0.9, 0.2, 0.3], True)


def test_a_series_whose_tumour_slices_were_rejected_has_a_tumour_all_the_same(tmp_path: Path) -> None:
    slices = [(0.9, True, False), (0.2, False, True), (0.3, False, True)]

    (series,) = read_series(*_write(tmp_path, {"p_t1": slices}))

    assert series.has_tumour
    assert not series.tumours.any()


def test_an_image_that_two_rounds_judged_counts_once(tmp_path: Path) -> None:
    predictions, groups = _write(tmp_path, {"p_t1": [(0.2, False, True)] * 4})
    with predictions.open("a") as stream:
        stream.write("".join(predictions.read_text().splitlines(keepends=True)[1:]))

    (series,) = read_series(predictions, groups)

    assert len(series.scores) == 4


def test_rules_are_compared_on_series_and_on_blocks(tmp_path: Path) -> None:
    report = compare_rules(read_series(*_write(tmp_path, _heads(60, 0))))

    assert report["slices"]["count"] == 120 * 24
    assert report["patients"] == {"with_tumour": 60, "without": 60}
    assert set(report["rules"]) == {*RULES, "regression"}
    assert report["chosen"] in report["rules"]
    for figures in report["rules"].values():
        assert all(
            0 <= figures[kind][name] <= 1
            for kind in ("series", "blocks")
            for name in ("sensitivity", "specificity")
        )
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

    report = compare_rules(read_series(*_write(tmp_path, shuffled)))

    regression = report["rules"]["regression"]["series"]
    assert 0.3 < regression["roc_auc"] < 0.65
    assert 0.6 < regression["sensitivity"] + regression["specificity"] < 1.4


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, groups = _write(tmp_path, _heads(20, 0))
    options = ["series", "--predictions", str(predictions), "--groups", str(groups)]

    assert (main(options), main([*options, "--json"])) == (0, 0)

    table, _, rest = capsys.readouterr().out.partition("{")
    assert "best run of three" in table
    assert "40 series (20 with a tumour)" in table
    assert "loudest 30% (chosen)" in table
    assert json.loads("{" + rest)["slices"]["count"] == 960


HEALTHY, ILL = [(0.5, False, True)] * 9, [(0.5, True, True)] * 9


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ({"p_t1": HEALTHY}, "no series with and without a tumour of two patients"),
        ({"p_t1": ILL, "p_t2": ILL, "q_t1": HEALTHY}, "no series with and without a tumour of two patients"),
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


def test_without_blocks_series_alone_are_compared(tmp_path: Path) -> None:
    series = {f"p{number}_t1": ILL if number % 2 else HEALTHY for number in range(4)}

    report = compare_rules(read_series(*_write(tmp_path, series)))

    assert {kind for figures in report["rules"].values() for kind in figures} == {"series", "together"}
    assert report["decision"] is None  # two patients of a kind are too few to fit anything


def test_predictions_that_name_patients_need_no_groups_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, groups = _write(tmp_path, _heads(6, 0))
    listed = read_series(predictions, groups)
    named = tmp_path / "named.csv"
    with predictions.open() as stream, named.open("w", newline="") as written:
        rows = list(csv.DictReader(stream))
        writer = csv.writer(written)
        writer.writerow([*rows[0], "patient", "series", "position"])
        for row in rows:
            name, number = row["file"].split("/")[-1].split("_t1_")
            writer.writerow([*row.values(), name, name, number.split("_")[0]])

    said = read_series(named, None)

    assert [one.scores.tolist() for one in said] == [one.scores.tolist() for one in listed]
    assert main(["series", "--predictions", str(predictions)]) == 2
    assert "names no patients" in capsys.readouterr().err


def test_a_model_is_given_the_decision_and_keeps_its_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, groups = _write(tmp_path, _heads(20, 0))
    output = tmp_path / "out" / "default.safetensors"
    output.parent.mkdir()
    options = [
        "series",
        "--predictions",
        str(predictions),
        "--groups",
        str(groups),
        "-o",
        str(output),
        "--json",
    ]

    code = main(options)

    assert code == 0
    decision = json.loads(capsys.readouterr().out)["decision"]
    before, after = read_weights(default_weights()), read_weights(output)
    assert asdict(after.spec.series or before.spec.decision) == decision
    assert after.spec.decision == before.spec.decision
    assert before.tensors.keys() == after.tensors.keys()
    for name, value in before.tensors.items():
        assert value.dtype == after.tensors[name].dtype
        assert value.tobytes() == after.tensors[name].tobytes()
    figures = json.loads((output.parent / "metrics.json").read_text())
    assert figures["weights"] == {"file": output.name, "sha256": after.sha256}
    assert figures["series"] == figures["metrics"]["left_out_rounds"]["series"]["decision"] == decision
    assert (output.parent / "CARD.md").read_text() == card_text(figures)
    assert main(options) == 2  # nothing is written over
    assert "is there already" in capsys.readouterr().err


def test_too_few_patients_give_a_model_no_decision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, groups = _write(tmp_path, _heads(4, 0))
    output = tmp_path / "ours.safetensors"

    code = main(["series", "--predictions", str(predictions), "--groups", str(groups), "-o", str(output)])

    assert code == 2
    assert "it takes five patients with a tumour and five without" in capsys.readouterr().err
    assert not output.exists()


def test_a_file_that_is_no_predictions_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, groups = _write(tmp_path, _heads(2, 0))

    code = main(["series", "--predictions", str(groups), "--groups", str(groups)])

    assert code == 2
    assert "lacks the columns file, label, inside, p_yes" in capsys.readouterr().err
    assert predictions.exists()
