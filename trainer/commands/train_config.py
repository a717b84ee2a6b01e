"""Configuration of a run, made of the options of `bt-train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.errors import UsageError
from config.paths import cache_folder
from config.text import printable
from trainer.commands.config_file import option_values, whole_command
from trainer.commands.options import command_line, exclusions_of

if TYPE_CHECKING:
    from trainer.training.config import Plan, RunConfig

# A body that comes from ImageNet is changed this much more slowly than the new head.
_TRAINED_BODY_RATE = 0.1
# Edges and textures, which are the same everywhere; what follows is half of the work of a step.
_FROZEN_PARTS = 6
_EPOCHS, _EPOCHS_FROM_TRAINED = 30, 8


def resolved_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with those that nothing was given for as they follow from others."""
    from trainer.networks.registry import registered
    from trainer.training.class_weights import BALANCED, NONE, parse_class_weights

    weights, balance = options["class_weights"], options["balance"]
    if weights == BALANCED and balance not in {None, "none"}:
        raise UsageError(
            f"--class-weights balanced and --balance {balance} would balance twice", hint="give one of them"
        )
    if weights not in {NONE, BALANCED}:
        parse_class_weights(weights)
    pretrained = _starts_from_imagenet(options)
    trained, frozen = pretrained or options["init"] is not None, options["freeze"]
    if frozen is None:
        frozen = _FROZEN_PARTS if pretrained and _has_installed_weights(options["arch"]) else 0
    return options | {
        "pretrained": pretrained,
        "epochs": options["epochs"] or (_EPOCHS_FROM_TRAINED if trained else _EPOCHS),
        "freeze": frozen,
        "image_size": options["image_size"] or registered(options["arch"]).image_size,
        "balance": balance or ("none" if weights == BALANCED else "source-label"),
    }


def run_config(command: click.Command, options: dict[str, Any], output: Path) -> RunConfig:
    """Return what a run into the folder `output` is to do, of resolved options."""
    from trainer.data.dataset import parse_merge
    from trainer.training.config import RunConfig

    from_file = options["config"] is not None or options["resume"]
    return RunConfig(
        data=options["data"],
        validation=options["val"],
        output=output,
        cache=cache_folder(),
        plan=_plan(options),
        merge=parse_merge(options["merge"]),
        architecture=options["arch"],
        colour=options["colour"],
        image_size=options["image_size"],
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
        pretrained=options["pretrained"],
        pretrained_file=options["pretrained_file"],
        name=options["name"] or "model",
        meanings=dict(_pair(text) for text in options["meaning"]),
        annotations=options["annotations"],
        licences=dict(_pair(text) for text in options["licence"]),
        command=whole_command(command, options, output) if from_file else command_line(),
        options={
            name: value for name, value in option_values(command, options).items() if value not in (None, [])
        },
    )  # fmt: skip


def _starts_from_imagenet(options: dict[str, Any]) -> bool:
    if options["pretrained_file"] is not None:
        if options["pretrained"] is False or options["init"] is not None:
            raise UsageError("--pretrained-file goes neither with --from-scratch nor with --init")
        return True
    if options["pretrained"] is not None:
        return bool(options["pretrained"])
    return options["init"] is None and _has_installed_weights(options["arch"])


def _has_installed_weights(architecture: str) -> bool:
    from trainer.networks.registry import registered

    pretrained = registered(architecture).pretrained
    return pretrained is not None and pretrained.installed


def _plan(options: dict[str, Any]) -> Plan:
    from trainer.training.config import Plan

    pretrained = options["pretrained"]
    return Plan(
        epochs=options["epochs"],
        batch=options["batch"],
        accumulate=options["accumulate"],
        learning_rate=options["lr"],
        body_rate=_TRAINED_BODY_RATE if pretrained else 1.0,
        frozen=options["freeze"],
        patience=options["patience"],
        seed=options["seed"],
        samples_per_epoch=options["samples"],
        from_scratch=not (pretrained or options["init"] is not None),
        balance=options["balance"],
        class_weights=options["class_weights"],
        max_minutes=options["max_minutes"],
    )


def _pair(text: str) -> tuple[str, str]:
    label, separator, words = text.partition("=")
    if not separator:
        raise click.UsageError(
            f"{printable(text)} is no pair; write --meaning 'yes=tumour', --licence 'data=CC0'"
        )
    return label, words
