"""`bt-train --data DIR`: train a network; the options of the program without a subcommand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from trainer.commands.config_file import FIND, LearningRate, layered, option_values
from trainer.commands.options import EXCLUDE_LIST, FOLDER
from trainer.commands.train_config import resolved_options, run_config

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.training.config import RunConfig
    from trainer.training.progress import Console

_OPTIONS = (
    click.option(
        "--data", multiple=True, type=FOLDER, metavar="DIR", help="Folder of class folders; repeatable."
    ),
    click.option(
        "-o",
        "--output",
        type=FOLDER,
        metavar="DIR",
        help="Where the results go (default: runs/NAME, or runs/TIME without --name).",
    ),
    click.option(
        "--config",
        type=FOLDER,
        metavar="FILE",
        help="Options from a TOML file, by their names (epochs = 10); the command line goes before it. Every "
        "run folder holds one, run.toml. Paths in it are relative to it.",
    ),
    click.option(
        "--val",
        multiple=True,
        type=FOLDER,
        metavar="DIR",
        help="Judge on this folder of class folders, in place of a part of --data; repeatable.",
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
        "--accumulate",
        default=1,
        show_default=True,
        metavar="N",
        type=click.IntRange(1, 1024),
        help="Add the gradients of N batches before a step: as N times --batch, in the memory of one.",
    ),
    click.option(
        "--lr",
        default=2e-3,
        show_default=True,
        type=LearningRate(),
        metavar="RATE|find",
        help="Learning rate; find looks for it first, and draws lr_find.png.",
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
        type=click.Choice(["none", "label", "source-label"]),
        help="What is drawn equally often (default: source-label; none with --class-weights balanced).",
    ),
    click.option(
        "--class-weights",
        default="none",
        show_default=True,
        metavar="none|balanced|A=2,B=1",
        help="What classes weigh in the loss; balanced: the inverse of how many images they have.",
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
        "weights are installed; torchvision's and timm's are downloaded).",
    ),
    click.option(
        "--pretrained-file",
        type=FOLDER,
        metavar="FILE",
        help="Start from weights of a network of timm in a file, as https://huggingface.co/timm has them.",
    ),
    click.option("--name", help="The model's name, as rows show it (default: model), and its run folder's."),
    click.option(
        "--log",
        default="auto",
        show_default=True,
        metavar="auto|none|NAME,...",
        help="Loggers: tensorboard, mlflow, wandb; auto is TensorBoard where it is installed.",
    ),
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


def train(context: click.Context, options: dict[str, Any]) -> int:
    """Train as the options say and print the result; return the exit code."""
    import json

    from trainer.runs.run_file import RUN_FILE, write_run_file
    from trainer.training.run_folder import how_to_go_on, made_folder

    output, options, notes = _layered(context, options)
    from trainer.loggers.select import loggers
    from trainer.training.progress import Console, summary
    from trainer.training.run import run_training

    callbacks, command = loggers(options["log"]), context.command
    with made_folder(output, overwrite=options["overwrite"]), Console(options["epochs"]) as console:
        for note in notes:
            console.say(note)
        try:
            if options["lr"] == FIND:
                options["lr"] = _found_rate(run_config(command, options | {"lr": 1.0}, output), console)
            write_run_file(output / RUN_FILE, option_values(command, options))
            request = run_config(command, options, output)
            measured = _measured(options, request, console)
            report = run_training(request, console, measured, callbacks)
        except KeyboardInterrupt:
            console.say(how_to_go_on(output))
            raise
        options["lesions"] = report["plan"]["lesions"]  # the images decided it, if nothing was given
        write_run_file(output / RUN_FILE, option_values(command, options))
    click.echo(json.dumps(report, sort_keys=True) if options["as_json"] else summary(report, output))
    return 0


def _layered(context: click.Context, options: dict[str, Any]) -> tuple[Path, dict[str, Any], list[str]]:
    """Return the run's folder, the options with every default resolved, and what is to be said of them."""
    from trainer.training.run_folder import run_folder

    given = layered(context, options, None).values
    output = run_folder(
        given["output"], given["name"], resume=options["resume"], overwrite=options["overwrite"]
    )
    found = layered(context, options, output if options["resume"] else None)
    if not found.values["data"]:
        raise click.UsageError("nothing to train on: give --data DIR", context)
    return output, resolved_options(found.values), found.notes


def _found_rate(request: RunConfig, console: Console) -> float:
    """Look for a learning rate, draw what was seen and return it."""
    from trainer.training.lr_find import find_learning_rate

    return find_learning_rate(request, console)


def _measured(options: dict[str, Any], request: RunConfig, console: Console) -> dict[str, Any]:
    """Train what --folds and --leave-source-out ask for; return what the card shall say of it."""
    from trainer.training.cross_validation import run_folds, run_left_out
    from trainer.training.progress import rounds_text

    measured: dict[str, Any] = {}
    whole = console.epochs
    request = replace(request, validation=())  # every image of --data is judged once, by turns
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
