"""The `bt-train` command: train by default, and what goes with training as subcommands."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.paths import cache_folder
from config.program import run
from config.text import DISCLAIMER, printable
from trainer.commands.options import _FOLDER

if TYPE_CHECKING:
    from trainer.training.config import Plan, RunConfig
    from trainer.training.progress import Console

# A body that comes from ImageNet is changed this much more slowly than the new head.
_TRAINED_BODY_RATE = 0.1
# Edges and textures, which are the same everywhere; what follows is half of the work of a step.
_FROZEN_PARTS = 6
_EPOCHS, _EPOCHS_FROM_TRAINED = 30, 8


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            installed = version("bt-daemon")  # the distribution that holds both programs
        except PackageNotFoundError:
            installed = "(not installed)"
        click.echo(f"bt-train {installed}")
        context.exit()


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=DISCLAIMER,
)
@click.option(
    "--data", multiple=True, type=_FOLDER, metavar="DIR", help="Folder of class folders; repeatable."
)
@click.option(
    "-o", "--output", type=_FOLDER, metavar="DIR", help="Where the results go (default: runs/TIME)."
)
@click.option(
    "--merge", multiple=True, metavar="NEW=A,B", help="Give folders A and B the class NEW; repeatable."
)
@click.option("--arch", default="cnn", show_default=True, metavar="NAME", help="See bt-train models.")
@click.option(
    "--epochs",
    metavar="N",
    type=click.IntRange(1),
    help="At most so many epochs (default: 30; 8 from trained weights).",
)
@click.option(
    "--batch",
    default=0,
    metavar="N",
    type=click.IntRange(0),
    help="Images per step (default: 64; 32 with fewer than 1,000 images).",
)
@click.option(
    "--lr", default=2e-3, show_default=True, type=click.FloatRange(0, min_open=True), help="Learning rate."
)
@click.option(
    "--image-size",
    type=click.IntRange(32, 1024),
    help="Input side, pixels (default: 128 for cnn, 224 for the Lite0s, 256 for others).",
)
@click.option(
    "--samples",
    default=0,
    metavar="N",
    type=click.IntRange(0),
    help="Images drawn per epoch (default: all, 512 at least).",
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same split and same chances.")
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu or cuda[:N].")
@click.option(
    "--groups",
    default="auto",
    show_default=True,
    metavar="FILE|auto|none",
    help="auto keeps near-duplicates on one side of the split, FILE (file,patient) patients too.",
)
@click.option(
    "--validation-share",
    default=0.15,
    show_default=True,
    type=click.FloatRange(0.02, 0.5),
    help="Share of the images that is judged on.",
)
@click.option(
    "--sensitivity",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0.5, 0.999),
    help="What the threshold must reach on validation images (lower bound).",
)
@click.option(
    "--leave-out",
    multiple=True,
    metavar="NAME",
    help="Keep a source, or files whose names begin so, out of training and judge on them; repeatable.",
)
@click.option(
    "--external",
    multiple=True,
    type=_FOLDER,
    metavar="DIR",
    help="Judge on this folder of class folders at the end; it takes no other part; repeatable.",
)
@click.option(
    "--folds",
    default=0,
    type=click.IntRange(0, 20),
    metavar="K",
    help="Train K networks first, each judged on a part that it did not see; 0: none.",
)
@click.option(
    "--leave-source-out",
    multiple=True,
    metavar="NAME|all",
    help="Train a network without this source (or files whose names begin so) first, and judge it there.",
)
@click.option(
    "--round-epochs",
    default=0,
    type=click.IntRange(0),
    metavar="N",
    help="Epochs of each training of --folds and --leave-source-out; 0: as --epochs.",
)
@click.option(
    "--patience",
    default=8,
    show_default=True,
    type=click.IntRange(0),
    help="Epochs without gain; 0: never stop.",
)
@click.option(
    "--balance",
    default="source-label",
    show_default=True,
    type=click.Choice(["none", "label", "source-label"]),
    help="How classes and sources are weighed.",
)
@click.option(
    "--lesions",
    type=click.FloatRange(0, 0.9),
    metavar="SHARE",
    help="Draw a lesion into this share of the tumour-free images while training, and call them tumours "
    "(default: 0.5 where training starts from trained weights and a class is called yes, tumour, tumor, "
    "positive or 1, else 0): less is learnt of where images come from.",
)
@click.option(
    "--freeze",
    type=click.IntRange(0),
    metavar="N",
    help="Keep the first N parts of a Lite0 as they are (default: 6 if it starts from ImageNet weights, "
    "else 0): half the time, less to forget.",
)
@click.option("--max-minutes", default=0.0, type=click.FloatRange(0), help="Stop before this; 0: no limit.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in -o DIR, or of the newest run.")
@click.option("--overwrite", is_flag=True, help="Train into -o DIR even if it holds a run, which is lost.")
@click.option(
    "--deterministic", is_flag=True, help="Same weights for the same seed on the same machine; slower."
)
@click.option("--init", type=_FOLDER, metavar="WEIGHTS", help="Start from another model's weights.")
@click.option(
    "--pretrained/--from-scratch",
    default=None,
    help="Start from ImageNet weights (default: efficientnet_lite0, lite0_short, lite0_six, whose weights are"
    " installed; torchvision's are downloaded).",
)
@click.option("--name", default="model", show_default=True, help="The model's name, as rows show it.")
@click.option(
    "--meaning", multiple=True, metavar="CLASS=WORDS", help="What a class means, for people; repeatable."
)
@click.option(
    "--licence", multiple=True, metavar="SOURCE=TEXT", help="A source's licence, for the card; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> int:
    """Train a network on folders of images, one folder per class.

    \b
    Examples:
      bt-train --data data/
      bt-train --data a/ --data b/ --merge yes=glioma,pituitary -o runs/both
      bt-train --data data/ -o runs/first --resume
    """  # noqa: D301 - click wants the character
    if context.invoked_subcommand is not None:
        return 0
    if not options["data"]:
        raise click.UsageError("nothing to train on: give --data DIR", context)
    return _train(options)


def _train(options: dict[str, Any]) -> int:
    import json

    from trainer.data.dataset import parse_merge
    from trainer.networks.registry import registered
    from trainer.training.config import RunConfig
    from trainer.training.progress import Console, summary
    from trainer.training.run import run_training
    from trainer.training.run_folder import how_to_go_on, made_folder, run_folder

    output = run_folder(options["output"], resume=options["resume"], overwrite=options["overwrite"])
    pretrained = _starts_from_imagenet(options)
    request = RunConfig(
        data=options["data"],
        output=output,
        cache=cache_folder(),
        plan=_plan(options, pretrained=pretrained),
        merge=parse_merge(options["merge"]),
        architecture=options["arch"],
        image_size=options["image_size"] or registered(options["arch"]).image_size,
        groups=options["groups"],
        validation_share=options["validation_share"],
        sensitivity=options["sensitivity"],
        leave_out=options["leave_out"],
        external=options["external"],
        device=options["device"],
        resume=options["resume"],
        deterministic=options["deterministic"],
        init=options["init"],
        lesions=options["lesions"],
        pretrained=pretrained,
        name=options["name"],
        meanings=dict(_pair(text) for text in options["meaning"]),
        licences=dict(_pair(text) for text in options["licence"]),
        command=_command(),
    )  # fmt: skip
    with made_folder(output, overwrite=options["overwrite"]), Console(request.plan.epochs) as console:
        try:
            report = run_training(request, console, _measured(options, request, console))
        except KeyboardInterrupt:
            console.say(how_to_go_on(output))
            raise
    click.echo(json.dumps(report, sort_keys=True) if options["as_json"] else summary(report, output))
    return 0


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
        console.say(rounds_text(report, place.output))
    if names := options["leave_source_out"]:
        place = replace(request, output=request.output / "left-out")
        report = run_left_out(place, () if "all" in names else names, console)
        measured["left_out_rounds"] = {key: report[key] for key in ("left_out", "plan")}
        console.say(rounds_text(report, place.output))
    console.epochs = whole
    return measured


def _starts_from_imagenet(options: dict[str, Any]) -> bool:
    from trainer.networks.registry import WITH_WEIGHTS

    if options["pretrained"] is not None:
        return bool(options["pretrained"])
    return options["init"] is None and options["arch"] in WITH_WEIGHTS


def _plan(options: dict[str, Any], *, pretrained: bool) -> Plan:
    from trainer.networks.registry import WITH_WEIGHTS
    from trainer.training.config import Plan

    trained = pretrained or options["init"] is not None
    frozen = options["freeze"]
    if frozen is None:
        frozen = _FROZEN_PARTS if pretrained and options["arch"] in WITH_WEIGHTS else 0
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


def _command() -> str:
    """Return the command line as a shell takes it, without what only says how this run was started."""
    once = {"--resume", "--overwrite"}
    return shlex.join(["bt-train", *(word for word in sys.argv[1:] if word not in once)])


def _pair(text: str) -> tuple[str, str]:
    label, separator, words = text.partition("=")
    if not separator:
        raise click.UsageError(
            f"{printable(text)} is no pair; write --meaning 'yes=tumour', --licence 'data=CC0'"
        )
    return label, words


@cli.command()
@click.option(
    "--image-size", default=256, show_default=True, type=click.IntRange(32, 1024), help="Input side, pixels."
)
@click.option("--measure/--no-measure", default=True, help="Measure images per second here.")
def models(image_size: int, measure: bool) -> None:
    """List the architectures with their parameters, cost and speed on this machine.

    \b
    Example:
      bt-train models --no-measure
    """  # noqa: D301 - click wants the character
    from trainer.commands.models import model_list

    for line in model_list(image_size, measure=measure):
        click.echo(line)


@cli.command(short_help="Twins, label conflicts, unreadable files, balance.")
@click.option(
    "--data", multiple=True, required=True, type=_FOLDER, metavar="DIR", help="Folder of class folders."
)
@click.option("--merge", multiple=True, metavar="NEW=A,B", help="Give folders A and B the class NEW.")
@click.option("--json", "as_json", is_flag=True, help="For programs, complete.")
def audit(data: tuple[Path, ...], merge: tuple[str, ...], as_json: bool) -> None:
    """Show what is wrong with a collection before anything is trained on it.

    \b
    Example:
      bt-train audit --data data/
    """  # noqa: D301 - click wants the character
    import json

    from trainer.data.audit import audit as examine
    from trainer.data.audit import audit_text
    from trainer.data.dataset import Collection, parse_merge
    from trainer.training.progress import Console

    with Console(0) as console:
        report = examine(Collection(data, parse_merge(merge), cache_folder()), console.decoding)
    click.echo(json.dumps(report, indent=1) if as_json else audit_text(report))


@cli.command("eval", short_help="How a weights file does on labelled images.")
@click.option("--weights", type=_FOLDER, metavar="FILE", help="Weights file (default: the shipped model).")
@click.option(
    "--data", multiple=True, required=True, type=_FOLDER, metavar="DIR", help="Folder of class folders."
)
@click.option("--merge", multiple=True, metavar="NEW=A,B", help="Give folders A and B the class NEW.")
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu or cuda[:N].")
@click.option("--json", "as_json", is_flag=True, help="For programs, with intervals.")
def evaluate(
    weights: Path | None, data: tuple[Path, ...], merge: tuple[str, ...], device: str, as_json: bool
) -> None:
    """Judge labelled images with a weights file and print how good it is, by source.

    \b
    Example:
      bt-train eval --data data/
    """  # noqa: D301 - click wants the character
    import json

    from trainer.data.dataset import Collection, parse_merge
    from trainer.evaluation.evaluate import evaluate as judge_all
    from trainer.evaluation.evaluate import evaluation_text
    from trainer.model.identity import default_weights
    from trainer.networks.inference import pick_device
    from trainer.training.progress import Console

    with Console(0) as console:
        report = judge_all(
            weights or default_weights(),
            Collection(data, parse_merge(merge), cache_folder()),
            pick_device(device),
            console.decoding,
        )
    click.echo(json.dumps(report, indent=1) if as_json else evaluation_text(report))
    _warn(report)
    click.echo(DISCLAIMER, err=True)


def _warn(report: dict[str, Any]) -> None:
    if report["warning"]:
        click.echo(f"warning: {report['warning']}", err=True)


@cli.command(short_help="Fit threshold and confidence to images of your own.")
@click.option("--weights", type=_FOLDER, metavar="FILE", help="Weights file (default: the shipped model).")
@click.option(
    "--data", multiple=True, required=True, type=_FOLDER, metavar="DIR", help="Folder of class folders."
)
@click.option("--merge", multiple=True, metavar="NEW=A,B", help="Give folders A and B the class NEW.")
@click.option("-o", "--output", type=_FOLDER, required=True, metavar="FILE", help="The new weights file.")
@click.option(
    "--sensitivity",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0.5, 0.999),
    help="What the threshold must reach on these images (lower bound).",
)
@click.option("--json", "as_json", is_flag=True, help="For programs, with intervals.")
def calibrate(
    weights: Path | None,
    data: tuple[Path, ...],
    merge: tuple[str, ...],
    output: Path,
    sensitivity: float,
    as_json: bool,
) -> None:
    """Write a copy of a model whose threshold and confidence fit labelled images; the network stays.

    \b
    Example:
      bt-train calibrate --data our-scanner/ -o ours.safetensors
    """  # noqa: D301 - click wants the character
    import json

    from trainer.data.dataset import Collection, parse_merge
    from trainer.evaluation.recalibrate import Recalibration, recalibrate, recalibration_text
    from trainer.model.identity import default_weights
    from trainer.training.progress import Console

    with Console(0) as console:
        report = recalibrate(
            Recalibration(weights or default_weights(), output, sensitivity, _command()),
            Collection(data, parse_merge(merge), cache_folder()),
            console.decoding,
        )
    click.echo(json.dumps(report, indent=1) if as_json else recalibration_text(report, output))
    _warn(report)
    click.echo(DISCLAIMER, err=True)


def main(arguments: list[str] | None = None) -> Any:
    """Run `bt-train` and return its exit code."""
    code = run(cli, "bt-train", arguments)
    if arguments is None:
        sys.exit(code)
    return code


if __name__ == "__main__":
    main()
