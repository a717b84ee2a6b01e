"""run.toml: options from a file, one line for each fault, and the same run again from what was written."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from config.errors import UsageError
from tests.support.training import Run, draw_heads, train, trained
from trainer.commands.config_file import Layered, layered, option_values
from trainer.runs.run_file import read_run_file, write_run_file

SMALL = ("--image-size", "32", "--epochs", "2", "--batch", "8", "--samples", "24", "--arch", "seed-cnn")


def _values(words: list[str], begun: Path | None = None) -> dict[str, object]:
    """Return the options of a command line as bt-train sees them."""
    from trainer.cli import cli

    context = cli.make_context("bt-train", list(words))
    return layered(context, context.params, begun).values


def test_the_command_line_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('data = "heads"\nepochs = 3\nimage-size = 64\nlr = 0.01\n')

    values = _values(["--config", str(file), "--epochs", "5"])

    assert (values["epochs"], values["image_size"], values["lr"]) == (5, 64, 0.01)
    assert values["patience"] == 8


def test_paths_of_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    file = tmp_path / "here" / "run.toml"
    file.write_text('data = ["../heads", "/absolute"]\ngroups = "patients.csv"\nval = "held-out"\n')

    values = _values(["--config", str(file)])

    assert values["data"] == (tmp_path / "here" / ".." / "heads", Path("/absolute"))
    assert values["groups"] == str(tmp_path / "here" / "patients.csv")
    assert values["val"] == (tmp_path / "here" / "held-out",)
    file.write_text('groups = "none"\n')
    assert _values(["--config", str(file)])["groups"] == "none"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("epoch = 3", "there is no option 'epoch'; did you mean epochs?"),
        ("resume = true", "there is no option 'resume'"),
        ('epochs = "ten"', "epochs takes a whole number, not 'ten'"),
        ("epochs = true", "epochs takes a whole number, not True"),
        ("epochs = 2.5", "epochs takes a whole number, not 2.5"),
        ("epochs = 0", "epochs = 0: 0 is not in the range x>=1"),
        ("lr = -1", "lr = -1: -1 is not above 0"),
        ('lr = "seek"', "lr = 'seek': 'seek' is neither a number nor find"),
        ('pretrained = "yes"', "pretrained takes true or false, not 'yes'"),
        ("data = 3", "data takes text in quotes, or a list of such"),
        ('data = ["a", 3]', "data takes text in quotes, or a list of such"),
        ('balance = "all"', "balance = 'all': 'all' is not one of 'none', 'label', 'source-label'"),
        ("[training]", "there is no option 'training'"),
    ],
)
def test_a_fault_of_the_file_is_one_line_with_its_place(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"# options\n\n{line}\n")

    with pytest.raises(UsageError) as caught:
        _values(["--config", str(file)])

    assert str(caught.value).startswith(f"{file}, line 3: {words}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("epochs = 3\nlr = \n")

    with pytest.raises(UsageError, match=r"is not TOML: .*line 2"):
        _values(["--config", str(file)])
    with pytest.raises(UsageError, match="cannot read"):
        _values(["--config", str(tmp_path / "none.toml")])


def test_every_option_is_written_and_read_back_as_it_was(tmp_path: Path) -> None:
    """Quotes, backslashes, commas, umlauts, control characters and floats come back."""
    from trainer.cli import cli

    name = 'a "b" \\ c,\td=é\x7f😀'
    words = [
        "--data",
        name,
        "--meaning",
        f"yes={name}",
        "--lr",
        "1e-06",
        "--from-scratch",
        "--groups",
        "none",
    ]
    context = cli.make_context("bt-train", words)
    values = option_values(cli, context.params)

    write_run_file(tmp_path / "run.toml", values)

    read = read_run_file(tmp_path / "run.toml").values
    assert read == {key: value for key, value in values.items() if value is not None}
    options = {
        parameter.opts[-1].removeprefix("--")
        for parameter in cli.params
        if isinstance(parameter, click.Option)
    }
    assert options - values.keys() == {"config", "output", "resume", "overwrite", "json", "version"}
    again = _values(["--config", str(tmp_path / "run.toml")])
    assert again["data"] == (Path(name).absolute(),)
    assert again["meaning"] == (f"yes={name}",)
    assert (again["lr"], again["pretrained"]) == (1e-6, False)


def test_resume_goes_by_what_was_begun_and_compares_what_is_given_with_it(tmp_path: Path) -> None:
    from trainer.cli import cli

    words = ["--data", str(tmp_path), "--epochs", "4", "--seed", "3"]
    write_run_file(
        tmp_path / "run.toml", option_values(cli, cli.make_context("bt-train", list(words)).params)
    )

    def resumed(*more: str) -> Layered:
        context = cli.make_context("bt-train", ["--resume", *more])
        return layered(context, context.params, tmp_path)

    assert {resumed().values[name] for name in ("epochs", "seed")} == {4, 3}
    assert resumed("--epochs", "4", "--lr", "find").notes == []
    assert resumed("--lr", "find").values["lr"] == 0.002  # what was found then
    longer = resumed("--epochs", "6", "--name", "longer", "--data", "moved")
    assert longer.values["epochs"] == 6
    assert longer.notes == ["other than when the run was begun: epochs (4, now 6), name (None, now 'longer')"]
    with pytest.raises(
        UsageError, match=r"begun with another init \(None, now 'a'\), another seed \(3, now 9\);"
    ):
        resumed("--seed", "9", "--init", "a")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("first")
    heads = draw_heads(folder / "heads", 14)
    options = ("--data", heads, *SMALL, "--deterministic", "--lesions", "0.3", "--log", "none", "--seed", "3")
    return trained(folder / "run", *options)


@pytest.mark.slow
def test_the_written_file_repeats_the_run_bit_for_bit(first: Run, tmp_path: Path) -> None:
    again = train("--config", first.folder / "run.toml", "-o", tmp_path / "other")

    assert (first.done.returncode, again.returncode) == (0, 0), first.done.stderr + again.stderr
    before, after = (
        json.loads((run / "metrics.json").read_text()) for run in (first.folder, tmp_path / "other")
    )
    assert after["metrics"] == before["metrics"]
    assert after["plan"] == before["plan"]
    assert (tmp_path / "other" / "predictions.csv").read_bytes() == (
        first.folder / "predictions.csv"
    ).read_bytes()
    texts = [(run / "run.toml").read_text() for run in (first.folder, tmp_path / "other")]
    assert texts[0] == texts[1]
    # The card's command needs no file.
    assert "--config" not in after["provenance"]["command"]
    assert "--lesions 0.3" in after["provenance"]["command"]


@pytest.mark.slow
def test_resume_takes_the_options_that_a_run_was_begun_with(first: Run) -> None:
    done = train("--resume", "-o", first.folder)

    assert done.returncode == 0, done.stderr
    assert "2 of 2 epochs are done already" in done.stderr
    assert "epoch 1/" not in done.stderr


@pytest.mark.slow
def test_resume_says_what_differs_from_what_was_begun(first: Run) -> None:
    refused = train("--resume", "-o", first.folder, "--lr", "0.1", "--epochs", "5")
    gone_on = train("--resume", "-o", first.folder, "--epochs", "3", "--name", "longer")

    assert refused.returncode == 2
    assert refused.stderr.startswith(f"bt-train: {first.folder} was begun with another lr (0.002, now 0.1); ")
    assert refused.stderr.count("\n") == 1
    assert gone_on.returncode == 0, gone_on.stderr
    assert "other than when the run was begun: epochs (2, now 3), name (None, now 'longer')" in gone_on.stderr
    assert "epoch 3/3: " in gone_on.stderr
    assert "epochs = 3" in (first.folder / "run.toml").read_text()
