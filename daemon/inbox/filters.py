"""Filter an inbox's entries: what is asked for, less what programs leave lying about."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_KINDS_SHOWN = 8  # of what was passed over

# Half-finished or hidden files and folders of sync tools, browsers, editors, desktops and NAS boxes.
# An upload is renamed to its final name when it is whole; that rename announces it.
_IGNORED = re.compile(
    rb"\..*"  # dotfiles: .DS_Store, ._x, .stfolder, .syncthing.*.tmp, .nfs*, .fuse_hidden*
    rb"|.*~|~\$.*|~.*\.tmp"
    rb"|.*\.(?:tmp|temp|part|partial|filepart|crdownload|download|opdownload|aria2|!ut|swp|lock)"
    rb"|@eaDir|#recycle|#snapshot|\$RECYCLE\.BIN|System Volume Information|lost\+found|__MACOSX"
    rb"|Thumbs\.db|ehthumbs\.db|desktop\.ini",
    re.IGNORECASE | re.DOTALL,
)
DONE_SUFFIX = b".done"
# What lies beside images in BIDS and other research folders and holds none; whoever has images under such
# an ending names it with --include. Endings of one or two letters and digits end many a DICOM name. Not here:
# .zip, in which archives hand out images; whoever puts one here is told in its row to unpack it.
NO_IMAGES = frozenset(
    b".bib .bval .bvals .bvec .bvecs .bz2 .cfg .conf .css .csv .csv.gz .db .doc .docx .htm .html .ini "
    b".ipynb .js .json .json.gz .log .lst .mat .md .md5 .nfo .npy .npz .odt .pdf .ppt .pptx .py .rar "
    b".rst .rtf .sh .sha256 .sql .sqlite .tar .tar.gz .tex .toml .tsv .tsv.gz .txt .txt.gz .url .xls "
    b".xlsx .xml .xz .yaml .yml .7z ".split()
)
_NO_IMAGE_NAMES = frozenset((b"changes", b"license", b"readme", b"dicomdir"))


@dataclass(frozen=True, slots=True)
class InboxRules:
    """What an inbox takes and how patient it is."""

    recursive: bool = True
    include: tuple[str, ...] = ()  # globs on the relative path; empty: everything
    exclude: tuple[str, ...] = ()  # globs on the relative path; a folder that matches is not entered
    settle_seconds: float = 2.0  # how long a file that nobody announced as whole must stay unchanged
    rescan_seconds: float = 60.0
    deadline_seconds: float = 300.0  # after which an empty or ever-changing file is handed over as it is
    poll: bool = False
    done_files: bool = False  # take x.png only when x.png.done is there
    skip_folders: tuple[bytes, ...] = ()  # absolute: done and quarantine folders inside the inbox
    once: bool = False  # one pass over what is there; empty files do not wait for the deadline


class Choice:
    """The rules of one inbox, ready to be asked about every entry of a scan."""

    def __init__(self, rules: InboxRules, root: bytes) -> None:
        self._done_files = rules.done_files
        self._include = _any_of(rules.include)
        self._exclude = _any_of(rules.exclude)
        self._skipped = frozenset(os.path.relpath(folder, root) for folder in rules.skip_folders)

    def takes_file(self, folder: bytes, name: bytes) -> bool:
        """Tell whether a file is wanted, its folder being wanted. Both are relative to the inbox."""
        if _IGNORED.fullmatch(name) or (self._done_files and name.lower().endswith(DONE_SUFFIX)):
            return False
        if self._include is None and holds_no_image(name):
            return False
        if self._include is None and self._exclude is None:
            return True
        path = os.fsdecode(os.path.join(folder, name))
        if self._exclude is not None and self._exclude.match(path):
            return False
        return self._include is None or self._include.match(path) is not None

    def enters_folder(self, path: bytes) -> bool:
        """Tell whether a subfolder is looked into, its parents being wanted."""
        if _IGNORED.fullmatch(os.path.basename(path)) or path in self._skipped:
            return False
        return self._exclude is None or self._exclude.match(os.fsdecode(path)) is None


def holds_no_image(name: bytes) -> bool:
    """Tell whether a file's name alone says that it is a sidecar, a document or an archive."""
    lower = name.lower()
    stem, dot, last = lower.rpartition(b".")
    if not dot:
        return lower in _NO_IMAGE_NAMES
    if last == b"gz":
        return b"." + stem.rpartition(b".")[2] + b".gz" in NO_IMAGES
    return dot + last in NO_IMAGES


def why_passed_over(name: bytes) -> str:
    """Return in a word why an entry is not taken though nobody excluded it; '' if somebody did."""
    if _IGNORED.fullmatch(name):
        return "hidden" if name.startswith(b".") else "leftover"
    if not holds_no_image(name):
        return ""
    return (os.path.splitext(name.lower())[1] or name.lower()).decode("ascii", "replace")


def passed_over_in_words(kinds: Counter[str]) -> str:
    """Return how many of each kind were passed over, the most frequent kinds first."""
    ordered = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    shown = [f"{number} {why}" for why, number in ordered[:_KINDS_SHOWN]]
    return ", ".join(shown + ["..."] * (len(kinds) > _KINDS_SHOWN))


def _any_of(globs: Sequence[str]) -> re.Pattern[str] | None:
    """Return the expression of globs in the grammar of .gitignore, matched whatever the case."""
    if not globs:
        return None
    return re.compile("|".join(map(_translated, globs)), re.IGNORECASE | re.DOTALL)


def _translated(glob: str) -> str:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    glob = glob.removeprefix("./")
    # What is special in a file of patterns (a comment, a negation) is a character here.
    escaped = f"\\{glob}" if glob.startswith(("#", "!")) else glob
    try:
        expression, _ = GitIgnoreSpecPattern.pattern_to_regex(escaped)
    except ValueError:
        expression = None
    if expression is None:  # no pattern, such as a bracket that is never closed: a name
        return f"^(?:.+/)?{re.escape(glob)}$"
    return str(expression).replace("(?P<ps_d>", "(?:")  # several in one expression
