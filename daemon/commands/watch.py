"""`bt-daemon watch`: judge what is in the folders and what arrives in them."""

from __future__ import annotations

from pathlib import Path

import click

from config.options import Invocation, Source, pass_invocation, program_options, setting_options
from config.store_url import StoreUrl
from daemon.inbox.filters import NO_IMAGES

_PASSED_OVER = (
    "Passed over and counted: hidden files, leftovers of other programs (.part, .tmp, ~) and, unless "
    "--include names them, files that hold no image by their ending: "
    + " ".join(sorted(ending.decode() for ending in NO_IMAGES))
)


@click.command(epilog=_PASSED_OVER)
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=Source())
@click.option("--once", is_flag=True, help="Judge what is there, then exit.")
@click.option("--reclassify", is_flag=True, help="Judge again, with this model, what another model judged.")
@setting_options(
    "weights", "spec", "device", "precision", "recursive", "settle", "rescan", "relist", "events", "deadline",
    "poll", "lanes", "batch", "workers", "workers_key",
    "include", "exclude", "done_files", "on_done", "done_dir", "quarantine_dir", "heatmaps", "max_bytes",
    "max_pixels", "max_slices", "decode_timeout", "decode_memory", "any_modality", "tags", "series",
    "retry_limit",
    "retry_base", "cache", "log_file", "notify", "notify_when", "ping",
)  # fmt: skip
@program_options
@pass_invocation
def command(
    invocation: Invocation, folders: tuple[Path | StoreUrl, ...], once: bool, reclassify: bool
) -> int:
    r"""Judge every image in DIR, and every one that arrives, and write one row each.

    DIR is a folder, or a bucket or a part of it: s3://BUCKET/PREFIX, gs://, az:// (extra store).

    \b
    Examples:
      bt-daemon watch ./inbox
      bt-daemon watch ./inbox --once --db results.db
      bt-daemon watch ./photos --weights net.onnx --spec net.toml
      bt-daemon watch ./a ./b --exclude 'export/**' --on-done move --done-dir ./judged
      bt-daemon watch /mnt/nas/inbox --workers tcp://:8786 --workers-key workers.pem
      bt-daemon watch s3://mri/incoming --events sqs:https://sqs.eu-central-1.amazonaws.com/1234/mri
    """
    from daemon.service.compose import watch

    return watch(invocation, folders, once=once, reclassify=reclassify)
