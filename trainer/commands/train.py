"""`bt-train --data DIR`: train a network; the options of the program without a subcommand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from config.paths import cache_folder
from config.text import printable
from trainer.commands.options import EXCLUDE_LIST, FOLDER, command_line, exclusions_of

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.training.config import Plan, RunConfig
    from trainer.training.progress import Console

# A body that comes from ImageNet is changed this much more slowly than the new head.
_TRAINED_BODY_RATE = 0.1
# Edges and textures, which are the same everywhere; what follows is half of the work of a step.
_FROZEN_PARTS = 6
_EPOCHS, _EPOCHS_FROM_TRAINED = 30, 8

_OPTIONS = (
    click.option(
        "--data", multiple=True, type=FOLDER, metavar="DIR", help="Folder of class folders; repeatable."
    ),
    click.option(
        "-o", "--output", type=FOLDER, metavar="DIR", help="Where the results go (default: runs/TIME)."
    ),
    click.option(
        "--merge", multiple=True, metavar="NEW=A,B", help="Give folders A and B the class NEW; repeatable."
    ),
    click.option("--arch", default="cnn", show_default=True, metavar="NAME", help="See bt-train models."),
    click.option(
        "--epochs",
        metavar="N",
        type=click.IntRange(1),
        help="At most so many epochs (default: 30; 8 from trained weights).",
    ),
    click.option(
        "--batch",
        default=0,
        metavar="N",
        type=click.IntRange(0),
        help="Images per step (default: 64; 32 with fewer than 1,000 images).",
    ),
    click.option(
        "--lr",
        default=2e-3,
        show_default=True,
        type=click.FloatRange(0, min_open=True),
        help="Learning rate.",
    ),
    click.option(
        "--image-size",
        type=click.IntRange(32, 1024),
        help="Input side, pixels (default: 128 for cnn, 224 for the Lite0s, 256 for others).",
    ),
    click.option(
        "--colour",
        is_flag=True,
        help="Learn from RGB pictures of anything, whole and as bright as they are (default: grey slices of "
        "heads).",
    ),
    click.option(
        "--samples",
        default=0,
        metavar="N",
        type=click.IntRange(0),
        help="Images drawn per epoch (default: all, 512 at least).",
    ),
    click.option("--seed", default=0, show_default=True, help="Same seed, same split and same chances."),
    click.option(
        "--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu or cuda[:N]."
    ),
    click.option(
        "--groups",
        default="auto",
        show_default=True,
        metavar="FILE|auto|none",
        help="auto keeps near-duplicates, and patients that DICOM tags name, on one side of the split; FILE "
        "(file,patient; perhaps series,position) patients that it names too.",
    ),
    click.option(
        "--validation-share",
        default=0.15,
        show_default=True,
        type=click.FloatRange(0.02, 0.5),
        help="Share of the images that is judged on.",
    ),
    click.option(
        "--sensitivity",
        default=0.95,
        show_default=True,
        type=click.FloatRange(0.5, 0.999),
        help="What the threshold must reach on validation images (lower bound).",
    ),
    click.option(
        "--leave-out",
        multiple=True,
        metavar="NAME",
        help="Keep a source, or files whose names begin so, out of training and judge on them; repeatable.",
    ),
    click.option(
        "--external",
        multiple=True,
        type=FOLDER,
        metavar="DIR",
        help="Judge on this folder of class folders at the end; it takes no other part; repeatable.",
    ),
    EXCLUDE_LIST,
    click.option(
        "--folds",
        default=0,
        type=click.IntRange(0, 20),
        metavar="K",
        help="Train K networks first, each judged on a part that it did not see; 0: none.",
    ),
    click.option(
        "--leave-source-out",
        multiple=True,
        metavar="NAME|all",
        help="Train a network without this source (or files whose names begin so) first, and judge it there.",
    ),
    click.option(
        "--round-epochs",
        default=0,
        type=click.IntRange(0),
        metavar="N",
        help="Epochs of each training of --folds and --leave-source-out; 0: as --epochs.",
    ),
    click.option(
        "--patience",
        default=8,
        show_default=True,
        type=click.IntRange(0),
        help="Epochs without gain; 0: never stop.",
    ),
    click.option(
        "--balance",
        default="source-label",
        show_default=True,
        type=click.Choice(["none", "label", "source-label"]),
        help="How classes and sources are weighed.",
    ),
    click.option(
        "--lesions",
        type=click.FloatRange(0, 0.9),
        metavar="SHARE",
        help="Put a lesion into this share of the tumour-free images while training, and call them tumours: "
        "drawn, or with --annotations another image's (default: 0.5 where training starts from trained "
        "weights and a class is called yes, tumour, tumor, positive or 1, else 0): less is learnt of where "
        "images come from.",
    ),
    click.option(
        "--annotations",
        type=FOLDER,
        metavar="DIR",
        help="Masks (SOURCE/NAME.png) and boxes (CSV with file,left,upper,right,lower in shares) of lesions: "
        "lite0_six_map learns where they are.",
    ),
    click.option(
        "--synthetic-heads",
        type=FOLDER,
        metavar="DIR",
        help="Make heads of the label maps in DIR (*.nii.gz, FreeSurfer's numbers) for the rejection limit: "
        "as head tomograms (CT), which it is to reject, and as MR of any contrast, which it is to let pass.",
    ),
    click.option(
        "--freeze",
        type=click.IntRange(0),
        metavar="N",
        help="Keep the first N parts of a Lite0 as they are (default: 6 if it starts from ImageNet weights, "
        "else 0): half the time, less to forget.",
    ),
    click.option(
        "--max-minutes", default=0.0, type=click.FloatRange(0), help="Stop before this; 0: no limit."
    ),
    click.option("--resume", is_flag=True, help="Go on from the checkpoint in -o DIR, or of the newest run."),
    click.option(
        "--overwrite", is_flag=True, help="Train into -o DIR even if it holds a run, which is lost."
    ),
    click.option(
        "--deterministic", is_flag=True, help="Same weights for the same seed on the same machine; slower."
    ),
    click.option("--init", type=FOLDER, metavar="WEIGHTS", help="Start from another model's weights."),
    click.option(
        "--pretrained/--from-scratch",
        default=None,
        help="Start from ImageNet weights (default: the Lite0 networks, whose "
        "weights are installed; torchvision's are downloaded).",
    ),
    click.option("--name", default="model", show_default=True, help="The model's name, as rows show it."),
    click.option(
        "--meaning", multiple=True, metavar="CLASS=WORDS", help="What a class means, for people; repeatable."
    ),
    click.option(
        "--licence",
        multiple=True,
        metavar="SOURCE=TEXT",
        help="A source's licence, for the card; repeatable.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON."),
)


def train_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command the options of a training, in the order of its help."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def train(options: dict[str, Any]) -> int:
    """Train as the options say and print the result; return the exit code."""
    import json

    from trainer.training.progress import Console, summary
    from trainer.training.run import run_training
    from trainer.training.run_folder import how_to_go_on, made_folder, run_folder

    output = run_folder(options["output"], resume=options["resume"], overwrite=options["overwrite"])
    request = _run_config(options, output)
    with made_folder(output, overwrite=options["overwrite"]), Console(request.plan.epochs) as console:
        try:
            report = run_training(request, console, _measured(options, request, console))
        except KeyboardInterrupt:
            console.say(how_to_go_on(output))
            raise
    click.echo(json.dumps(report, sort_keys=True) if options["as_json"] else summary(report, output))
    return 0


def _run_config(options: dict[str, Any], output: Path) -> RunConfig:
    from trainer.data.dataset import parse_merge
    from trainer.networks.registry import registered
    from trainer.training.config import RunConfig

    pretrained = _starts_from_imagenet(options)
    return RunConfig(
        data=options["data"],
        output=output,
        cache=cache_folder(),
        plan=_plan(options, pretrained=pretrained),
        merge=parse_merge(options["merge"]),
        architecture=options["arch"],
        colour=options["colour"],
        image_size=options["image_size"] or registered(options["arch"]).image_size,
        groups=options["groups"],
        validation_share=options["validation_share"],
        sensitivity=options["sensitivity"],
        leave_out=options["leave_out"],
        external=options["external"],
        exclusions=exclusions_of(options["exclude_list"]),
        device=options["device"],
        resume=options["resume"],
        deterministic=options["deterministic"],
        init=options["init"],
        lesions=options["lesions"],
        synthetic_heads=options["synthetic_heads"],
        pretrained=pretrained,
        name=options["name"],
        meanings=dict(_pair(text) for text in options["meaning"]),
        annotations=options["annotations"],
        licences=dict(_pair(text) for text in options["licence"]),
        command=command_line(),
    )  # fmt: skip


def _measured(options: dict[str, Any], request: RunConfig, console: Console) -> dict[str, Any]:
    """Train what --folds and --leave-source-out ask for; return what the card shall say of it."""
    from trainer.training.cross_validation import run_folds, run_left_out
    from trainer.training.progress import rounds_text

    measured: dict[str, Any] = {}
    whole = console.epochs
    if options["round_epochs"]:
        console.epochs = options["round_epochs"]
        request = replace(request, plan=replace(request.plan, epochs=console.epochs))
    if options["folds"]:
        place = replace(request, output=request.output / "folds")
        report = run_folds(place, options["folds"], console)
        measured["out_of_fold"] = report["out_of_fold"] | {
            "nearest_neighbour": report["nearest_neighbour"]["accuracy"]
        }
        if "series" in report:
            measured["out_of_fold"]["series"] = report["series"]
        console.say(rounds_text(report, place.output))
    if names := options["leave_source_out"]:
        place = replace(request, output=request.output / "left-out")
        report = run_left_out(place, () if "all" in names else names, console)
        measured["left_out_rounds"] = {
            key: report[key] for key in ("left_out", "plan", "pooled", "series") if key in report
        }
        console.say(rounds_text(report, place.output))
    console.epochs = whole
    return measured


def _starts_from_imagenet(options: dict[str, Any]) -> bool:
    if options["pretrained"] is not None:
        return bool(options["pretrained"])
    return options["init"] is None and _has_installed_weights(options["arch"])


def _has_installed_weights(architecture: str) -> bool:
    from trainer.networks.registry import registered

    pretrained = registered(architecture).pretrained
    return pretrained is not None and pretrained.installed


def _plan(options: dict[str, Any], *, pretrained: bool) -> Plan:
    from trainer.training.config import Plan

    trained = pretrained or options["init"] is not None
    frozen = options["freeze"]
    if frozen is None:
        frozen = _FROZEN_PARTS if pretrained and _has_installed_weights(options["arch"]) else 0
    return Plan(
        epochs=options["epochs"] or (_EPOCHS_FROM_TRAINED if trained else _EPOCHS),
        batch=options["batch"],
        learning_rate=options["lr"],
        body_rate=_TRAINED_BODY_RATE if pretrained else 1.0,
        frozen=frozen,
        patience=options["patience"],
        seed=options["seed"],
        samples_per_epoch=options["samples"],
        from_scratch=not trained,
        balance=options["balance"],
        max_minutes=options["max_minutes"],
    )


def _pair(text: str) -> tuple[str, str]:
    label, separator, words = text.partition("=")
    if not separator:
        raise click.UsageError(
            f"{printable(text)} is no pair; write --meaning 'yes=tumour', --licence 'data=CC0'"
        )
    return label, words
