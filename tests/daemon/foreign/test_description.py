"""A description file says what a network's numbers mean; what it gets wrong is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import UsageError
from daemon.cli import main
from daemon.foreign.description import description_key, read_description
from tests.support.onnx_files import description
from trainer.model.spec import Decision, ModelSpec

_NETWORK = Path("somewhere/net.onnx")
_TWO = 'classes = ["no", "yes"]'


def test_what_is_left_out_has_its_usual_value(tmp_path: Path) -> None:
    spec = read_description(description(tmp_path / "spec.toml"), _NETWORK)

    assert (spec.name, spec.version, spec.classes) == ("net", "1", ("red", "green", "blue"))
    assert spec.preprocessing.input_shape == (16, 16, 3)
    assert (spec.preprocessing.mean, spec.preprocessing.std) == (0.0, 1.0)
    assert spec.decision == Decision(uncertain_low=0, uncertain_high=0)
    assert spec.out_of_distribution is None
    assert not spec.has_maps
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_scale_mean_and_std_are_those_of_pixels_from_0_to_1(tmp_path: Path) -> None:
    told = description(
        tmp_path / "spec.toml", input="size = 16\nscale = 1.0\nmean = [104, 117, 123]\nstd = [1, 1, 1]"
    )

    how = read_description(told, _NETWORK).preprocessing

    assert how.mean == pytest.approx((104 / 255, 117 / 255, 123 / 255))
    assert how.std == pytest.approx((1 / 255,) * 3)


def test_classes_may_be_the_lines_of_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n\n dog \n")

    spec = read_description(description(tmp_path / "spec.toml", top='classes = "names.txt"'), _NETWORK)

    assert spec.classes == ("cat", "dog")


def test_a_positive_class_has_the_threshold_and_band_that_are_given(tmp_path: Path) -> None:
    told = description(
        tmp_path / "spec.toml", top=_TWO, output='gives = "sigmoid"',
        decision='positive = "yes"\nthreshold = 0.3\nuncertain_low = 0.2',
    )  # fmt: skip

    decision = read_description(told, _NETWORK).decision

    assert (decision.positive, decision.threshold) == ("yes", 0.3)
    assert (decision.uncertain_low, decision.uncertain_high) == (0.2, 0.3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top": "clases = ['a', 'b']"}, "there is no 'clases', did you mean classes?"),
        ({"top": "name = 'x'"}, "missing required field `classes`"),
        ({"top": "classes = ['a']"}, "needs 2 to 1,000 classes"),
        ({"top": "classes = ['a', 'a']"}, "'a' stands twice"),
        ({"top": "classes = 'no.txt'"}, "No such file"),
        ({"top": "classes = ["}, "is not TOML"),
        ({"input": "size = '16'"}, "input.size: expected `int`, got `str`"),
        ({"input": "size = 5"}, "image_size is outside 16..4096"),
        ({"input": "size = 16\nchannels = 4"}, "input.channels: invalid enum value 4"),
        ({"input": "size = 16\nmeen = 0.5"}, "[input] has no 'meen', did you mean mean?"),
        ({"input": "size = 16\nmean = [0.5, 0.5]"}, "one for each of 3 channels"),
        ({"input": "size = 16\nstd = 0.0"}, "preprocessing.std is outside"),
        ({"input": "size = 16\nscale = 0.0"}, "scale is not above 0"),
        ({"input": "size = 16\nmean = nan"}, "mean is not a finite number"),
        ({"input": "size = 64\nresize = 32"}, "resize is smaller than input.size"),
        ({"input": "size = 16\nfit = 'pad'\nresize = 20"}, "resize is for fit = 'crop'"),
        ({"output": "gives = 'sigmoid'"}, "sigmoid' is for one number"),
        ({"output": "gives = 'raw'"}, "output.gives: invalid enum value 'raw'"),
        ({"decision": "positive = 'purple'"}, "positive class 'purple' is not one of its classes"),
        ({"decision": "threshold = 2.0"}, "decision.threshold is outside 0..1"),
    ],
)
def test_a_fault_is_one_line_that_names_file_and_field(
    changes: dict[str, str], words: str, tmp_path: Path
) -> None:
    told = description(tmp_path / "spec.toml", **changes)

    with pytest.raises(UsageError) as refused:
        read_description(told, _NETWORK)

    assert words in str(refused.value)
    assert "spec.toml" in str(refused.value)
    assert "weights file" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_word_in_the_description_is_another_model(tmp_path: Path) -> None:
    told = [
        read_description(description(tmp_path / f"{number}.toml", decision=words), _NETWORK)
        for number, words in enumerate(("temperature = 1.0", "temperature = 1.5", "temperature = 1.0 # same"))
    ]

    keys = [description_key("0" * 64, spec) for spec in told]

    assert keys[0] == keys[2] != keys[1]


def test_config_check_and_doctor_say_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    description(tmp_path / "spec.toml", input="size = 16\nmeen = 0.5")
    (tmp_path / "bt.toml").write_text('weights = "net.onnx"\nspec = "spec.toml"\n')

    checked, told = main(["config", "check"]), capsys.readouterr().out
    main(["doctor", "--db", "x.db"])

    assert checked == 2
    assert told.startswith("spec in bt.toml: spec.toml: [input] has no 'meen', did you mean mean?")
    assert "spec.toml: [input] has no 'meen', did you mean mean?" in capsys.readouterr().out
