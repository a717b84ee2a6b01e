"""Settings, each declared once: default, parser, meaning.

A value comes from the command line, else from the environment (`BT_SETTLE`), else from `bt.toml`
(`settle = "2s"`), else from the default here. The command line's options are made from these
declarations (see `config.options`), so that nothing is said twice.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from config import parse
from config.errors import BtError, UsageError
from config.paths import cache_folder, default_database, user_config_file
from config.text import printable

ENVIRONMENT_PREFIX = "BT_"


def _choice(*words: str) -> Callable[[object], str]:
    def one_of(value: object) -> str:
        if value not in words:
            raise UsageError(f"{printable(repr(value))} is not one of {', '.join(words)}")
        return str(value)

    return one_of


def _setting(
    default: object,
    help_text: str,
    read: Callable[[object], Any],
    *,
    key: str = "",
    metavar: str = "",
    words: str = "",
) -> Any:
    """Declare a setting; `words` say what its default means where the value itself does not."""
    metadata = {"help": help_text, "parse": read, "key": key, "metavar": metavar, "default": words}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their final values; field comments are the help texts."""

    db: str = _setting(
        lambda: str(default_database()),
        "database file or URL",
        parse.text,
        metavar="URL|FILE",
        words="results.db in the user's data folder",
    )
    weights: str = _setting(
        "", "weights file, or an .onnx file with spec", parse.text, metavar="FILE", words="the shipped model"
    )
    spec: str = _setting(
        "",
        "what a network is that was not trained here, for weights that are an .onnx file",
        parse.text,
        metavar="FILE.toml",
        words="none",
    )
    device: str = _setting("auto", "where to compute: auto, cpu or cuda[:N]", parse.text, metavar="DEVICE")
    precision: str = _setting(
        "auto",
        "numbers of the engine: auto, fp32 or bf16",
        _choice("auto", "fp32", "bf16"),
        metavar="NAME",
    )
    lanes: int = _setting(
        0, "worker processes; 0: one per core, none: only workers that join", parse.lane_count, metavar="N"
    )
    batch: int = _setting(8, "largest batch on a CPU; a GPU takes what waits", parse.whole, metavar="N")
    cache: str = _setting(
        lambda: str(cache_folder()),
        "folder for compiled engines",
        parse.text,
        metavar="DIR",
        words="the user's cache folder",
    )

    workers: str = _setting(
        "",
        "let workers on other machines join at an address (extra scale)",
        parse.text,
        metavar="tcp://[HOST]:PORT",
        words="nobody joins",
    )
    workers_key: str = _setting(
        "",
        "key of the daemon and its workers, from worker --make-key; needed beyond this machine",
        parse.text,
        metavar="FILE",
        words="none",
    )
    leave_after_seconds: float = _setting(
        0.0,
        "leave when the daemon has been away for so long",
        parse.duration,
        key="leave_after",
        metavar="TIME",
        words="never",
    )

    recursive: bool = _setting(True, "look into subfolders", parse.switch)
    include: tuple[str, ...] = _setting(
        (),
        "only files matching GLOB; a comma in a name is written [,]",
        parse.globs,
        metavar="GLOB,...",
        words="every file",
    )
    exclude: tuple[str, ...] = _setting(
        (), "leave out files matching GLOB", parse.globs, metavar="GLOB,...", words="none"
    )
    settle_seconds: float = _setting(
        2.0, "how long a file found by scan must stay unchanged", parse.duration, key="settle", metavar="TIME"
    )
    rescan_seconds: float = _setting(
        60.0, "time between two scans of an inbox", parse.duration, key="rescan", metavar="TIME"
    )
    relist_seconds: float = _setting(
        3600.0,
        "time between two listings of an object store: they cost money",
        parse.duration,
        key="relist",
        metavar="TIME",
    )
    events: str = _setting(
        "",
        "queue that tells of new objects, sqs:URL: found at once, not at the next listing",
        parse.text,
        metavar="sqs:URL",
        words="none",
    )
    deadline_seconds: float = _setting(
        30.0,
        "when a file that stays empty, truncated or unstable is quarantined",
        parse.duration,
        key="deadline",
        metavar="TIME",
    )
    poll: bool = _setting(False, "scan only, do not use file system events", parse.switch)
    done_files: bool = _setting(False, "take x.png only when x.png.done is there", parse.switch)
    on_done: str = _setting(
        "keep", "keep images where they are or move them", _choice("keep", "move"), metavar="keep|move"
    )
    done_dir: str = _setting("", "where judged images are moved", parse.text, metavar="DIR", words="nowhere")
    quarantine_dir: str = _setting(
        "", "where images that failed are moved", parse.text, metavar="DIR", words="nowhere"
    )
    heatmaps: str = _setting(
        "", "folder for a heatmap of every judged image", parse.text, metavar="DIR", words="none"
    )

    max_bytes: int = _setting(512 << 20, "largest file that is read", parse.byte_size, metavar="SIZE")
    max_pixels: int = _setting(64 << 20, "largest picture that is decoded, pixels", parse.whole, metavar="N")
    max_slices: int = _setting(64, "most slices judged of one volume", parse.whole, metavar="N")
    decode_seconds: float = _setting(
        10.0, "longest time for one file", parse.duration, key="decode_timeout", metavar="TIME"
    )
    decode_memory: int = _setting(2 << 30, "most memory for one file", parse.byte_size, metavar="SIZE")
    any_modality: bool = _setting(False, "take DICOM other than MR too", parse.switch)
    tags: tuple[str, ...] = _setting(
        (),
        "DICOM tags stored with the result, e.g. StudyInstanceUID",
        parse.tag_keywords,
        metavar="NAME,...",
        words="none",
    )

    series: str = _setting(
        "",
        "which files are a series, by their paths: bids, folders, or a pattern with (?P<series>...)",
        parse.text,
        metavar="PATTERN",
        words="as DICOM objects say; a volume is one",
    )
    series_quiet_seconds: float = _setting(
        60.0,
        "a series to which nothing came for so long is complete",
        parse.duration,
        key="series_quiet",
        metavar="TIME",
    )

    retry_limit: int = _setting(8, "attempts at a file before it is quarantined", parse.whole, metavar="N")
    retry_base_seconds: float = _setting(
        1.0,
        "wait before the first retry; doubled each time",
        parse.duration,
        key="retry_base",
        metavar="TIME",
    )

    notify: tuple[str, ...] = _setting(
        (),
        "post changes of the daemon's state to URL, as JSON",
        parse.texts,
        metavar="URL,...",
        words="nobody",
    )
    notify_when: tuple[str, ...] = _setting(
        (),
        "tell of results too: class, and least score",
        parse.texts,
        metavar="CLASS[:SCORE],...",
        words="none",
    )
    ping: str = _setting(
        "",
        "get URL every minute while the daemon is healthy, URL/fail while it is degraded",
        parse.text,
        metavar="URL",
        words="none",
    )

    log_format: str = _setting(
        "text", "log lines as text or json", _choice("text", "json"), metavar="text|json"
    )
    log_file: str = _setting(
        "",
        "log here too, kept to six files of 10 MiB; for machines without journald",
        parse.text,
        metavar="FILE",
        words="stderr alone",
    )


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings with the place each value came from."""

    settings: Settings
    sources: dict[str, str]  # key -> "flag", "environment BT_X", "bt.toml", "default"
    config_file: Path | None


def default_words(declared: Field[Any]) -> str:
    """Return a setting's default as `--help` names it, "" for a switch that is off."""
    if declared.metadata["default"] or declared.default is False:
        return str(declared.metadata["default"])
    return parse.written(declared.default, declared.metadata["parse"])


def key_of(declared: Field[Any]) -> str:
    """Return the name of a setting as users write it in bt.toml, with underscores."""
    return declared.metadata["key"] or declared.name


def declarations() -> dict[str, Field[Any]]:
    """Return every setting's declaration by its key."""
    return {key_of(declared): declared for declared in fields(Settings)}


def resolve(
    flags: Mapping[str, object], environ: Mapping[str, str], config_file: Path | None = None
) -> Resolved:
    """Return the settings from flags (key -> text or value, None when not given), environment and file.

    Raises UsageError for a value that cannot be meant and for a key that does not exist.
    """
    path = _config_path(config_file, environ)
    from_file = _read(path) if path is not None else {}
    from_environment = _from_environment(environ)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, declared in declarations().items():
        for source, found in (
            ("flag", flags.get(key)),
            (f"environment {ENVIRONMENT_PREFIX}{key.upper()}", from_environment.get(key)),
            (str(path), from_file.get(key)),
        ):
            if found is not None and found != ():
                values[declared.name] = _parsed(declared, found, source)
                sources[key] = source
                break
        else:
            sources[key] = "default"
    return Resolved(Settings(**values), sources, path)


def faults(flags: Mapping[str, object], environ: Mapping[str, str], config_file: Path | None) -> list[str]:
    """Return every fault of the settings, one line each with the setting and where it came from."""
    try:
        path = _config_path(config_file, environ)
        raw = _table(path) if path is not None else {}
    except UsageError as error:
        return [str(error)]
    known, found = declarations(), []
    values = [(str(path), str(name).replace("-", "_"), value) for name, value in raw.items()]
    values += [
        (f"environment {name}", name.removeprefix(ENVIRONMENT_PREFIX).lower(), value)
        for name, value in environ.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name != "BT_CONFIG"
    ]
    values += [("flag", key, value) for key, value in flags.items()]
    for source, key, value in values:
        if key in known:
            try:
                _parsed(known[key], value, source)
            except UsageError as error:
                found.append(str(error))
        elif source == str(path):
            found.append(f"{printable(source)} has no setting {printable(repr(key))}{_nearest(key, known)}")
        elif near := _nearest(key, known, ENVIRONMENT_PREFIX):
            found.append(f"{printable(source)} is no setting{near}")
    return found


def _parsed(declared: Field[Any], found: object, source: str) -> Any:
    key = key_of(declared)
    try:
        return declared.metadata["parse"](found)
    except BtError as error:
        where = f"--{key.replace('_', '-')}" if source == "flag" else f"{key} in {source}"
        raise UsageError(f"{where}: {error.what}", hint=error.hint) from None


def _config_path(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = given or (Path(environ["BT_CONFIG"]) if environ.get("BT_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise UsageError(
                f"no configuration file at {printable(str(named))}", hint="see bt-daemon config path"
            )
        return named
    return next((path for path in (Path("bt.toml"), user_config_file()) if path.is_file()), None)


def _table(path: Path) -> dict[str, object]:
    shown = printable(str(path))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {shown}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{shown} is not TOML: {error}") from error


def _read(path: Path) -> dict[str, object]:
    shown, raw = printable(str(path)), _table(path)
    known = declarations()
    found: dict[str, object] = {}
    for name, value in raw.items():
        key = name.replace("-", "_")
        if key not in known:
            raise UsageError(f"{shown} has no setting {printable(repr(name))}{_nearest(key, known)}")
        found[key] = value
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    known = declarations()
    found: dict[str, str] = {}
    for name, value in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name == "BT_CONFIG":
            continue
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        # A name that is like none of ours belongs to another program (BT is a short prefix).
        if key not in known and (near := _nearest(key, known, ENVIRONMENT_PREFIX)):
            raise UsageError(f"environment variable {printable(name)} is no setting{near}")
        if key in known:
            found[key] = value
    return found


def _nearest(key: str, known: Mapping[str, object], prefix: str = "") -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if not close:
        return ""
    return f"; did you mean {prefix}{close[0].upper() if prefix else close[0]}?"


def environment() -> Mapping[str, str]:
    """Return the process's environment; commands pass it on, nothing else reads it."""
    return os.environ
