"""`bt-train eval`: judge labelled images with one weights file or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.commands.options import FOLDER, GROUPS_OPTION, collection_of, collection_options, echo_caveats

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset
    from trainer.evaluation.outputs.judged_set import JudgedSet

_TRAINED_ON = click.option(
    "--trained-on",
    multiple=True,
    type=FOLDER,
    metavar="DIR",
    help="Class folders the model was trained on: images that have a twin there are told of; repeatable.",
)


@click.command("eval", short_help="How weights files do on labelled images.")
@click.option(
    "--weights",
    type=FOLDER,
    multiple=True,
    metavar="FILE",
    help="Weights file (default: the shipped model); several are compared with the first.",
)
@collection_options
@GROUPS_OPTION
@click.option(
    "--list",
    "score_list",
    type=FOLDER,
    metavar="FILE",
    help="Write every image with its scores to FILE.csv or FILE.parquet.",
)
@click.option(
    "--plots",
    type=FOLDER,
    metavar="DIR",
    help="Draw curves.png (ROC, precision and recall, reliability), confusion and worst errors into DIR.",
)
@_TRAINED_ON
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu or cuda[:N].")
@click.option("--json", "as_json", is_flag=True, help="For programs, with intervals.")
def command(**options: Any) -> None:
    """Judge labelled images with a weights file and print how good it is, by source.

    Series, where a groups file or DICOM's tags tell them, are judged as bt-daemon judges them: one that has
    a slice with a tumour has a tumour. Intervals are 95 %, by bootstrap over patients. Of several weights
    files the differences from the first stand below, with paired intervals.

    \b
    Example:
      bt-train eval --data data/
      bt-train eval --data data/ --groups patients.csv --list scores.csv --plots plots/
      bt-train eval --data data/ --weights old.safetensors --weights new.safetensors
    """  # noqa: D301 - click wants the character
    import json

    from trainer.evaluation.evaluate import evaluation_text, report_of
    from trainer.evaluation.outputs.model_comparison import comparison_text, paired_differences

    judged = _judged(options)
    trained_on = _trained_on(options, judged[0])
    reports = [report_of(one, trained_on) for one in judged]
    _write(judged, options["score_list"], options["plots"])
    if len(judged) == 1:
        report = reports[0]
        click.echo(json.dumps(report, indent=1) if options["as_json"] else evaluation_text(report))
    else:
        paired = paired_differences(judged)
        told = {"models": reports, "more_than_the_first": paired}
        click.echo(
            json.dumps(told, indent=1) if options["as_json"] else comparison_text(judged, reports, paired)
        )
    warnings = {one.name: report["warning"] for one, report in zip(judged, reports, strict=True)}
    text = "; ".join(
        (f"{name}: {words}" if len(judged) > 1 else words) for name, words in warnings.items() if words
    )
    echo_caveats({"warning": text})


def _judged(options: dict[str, Any]) -> list[JudgedSet]:
    from trainer.evaluation.outputs.judged_set import judge_collection
    from trainer.evaluation.outputs.model_comparison import check_comparable
    from trainer.evaluation.outputs.score_list import check_list
    from trainer.model.identity import default_weights
    from trainer.networks.inference import pick_device
    from trainer.training.progress import Console

    if options["score_list"] is not None:
        check_list(options["score_list"])
    device = pick_device(options["device"])
    paths = options["weights"] or (default_weights(),)
    with Console(0) as console:
        collection = collection_of(options)
        judged = [judge_collection(path, collection, device, console.decoding) for path in paths]
    check_comparable(judged)
    return judged


def _trained_on(options: dict[str, Any], judged: JudgedSet) -> Dataset | None:
    from dataclasses import replace

    if not options["trained_on"]:
        return None
    collection = replace(collection_of(options | {"groups": None}), roots=options["trained_on"])
    return collection.load(judged.weights.spec.preprocessing, least_classes=1)


def _write(judged: list[JudgedSet], score_list: Path | None, plots: Path | None) -> None:
    from config.errors import BtError
    from config.text import printable

    try:
        if score_list is not None:
            from trainer.evaluation.outputs.score_list import write_list

            rows = write_list(judged, score_list)
            click.echo(f"{rows} rows in {printable(str(score_list))}", err=True)
        if plots is not None:
            from trainer.evaluation.outputs.evaluation_plots import draw_evaluation

            for path in draw_evaluation(judged, plots):
                click.echo(f"drawn: {printable(str(path))}", err=True)
    except OSError as error:
        why = f"nothing can be written there ({error.strerror})"
        raise BtError(why, hint="choose another place") from error
