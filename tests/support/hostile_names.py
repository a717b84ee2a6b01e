"""Five hundred file names that a folder may really hold and that no output may trip over."""

from __future__ import annotations

_CORES = (
    b"plain.png",
    b"no 5.jpeg",
    b"<script>alert(1)</script>.png",
    b'"><img src=x onerror=alert(1)>.png',
    b"&lt;b&gt;.png",
    b"{{7*7}}${7*7}.png",
    b"\x1b[2J\x1b[H.png",
    b"\x1b]0;owned\x07.png",
    b"\x1b]8;;http:evil\x1b\\link.png",
    b"\x9b31m.png",  # a C1 control as one byte: not UTF-8
    "\u009b31m.png".encode(),
    "\u202egnp.exe.png".encode(),
    "\u2066a\u2069\u200f.png".encode(),
    "zero\u200bwidth\ufeff.png".encode(),
    "line\u2028separator\u2029.png".encode(),
    b"new\nline.png",
    b"carriage\rreturn.png",
    b"tab\tulator.png",
    b"bell\x07back\x08space\x7f.png",
    b"=cmd|'/C calc'!A0.png",
    b"+1+1.png",
    b"-2+3.png",
    b"@SUM(A1).png",
    "\uff1d1+1.png".encode(),
    b'quote".png',
    b"comma,semicolon;.png",
    b"'single'.png",
    b"back\\slash\\x41.png",
    b"\xff\xfe\xfa.png",
    b"\xc3\x28.png",
    b"\xed\xa0\x80.png",  # a surrogate, as CESU-8 has it
    "Größe Ærø 脳 🧠.png".encode(),
    "e\u0301\u0301\u0301.png".encode(),
    b" leading and trailing ",
    b"-",
    b"--help",
    b"%s%n%00.png",
    b"[bold red]rich[/bold red] :smile:.png",
    b"CON",
    b"null",
)
_FRAMES: tuple[tuple[bytes, bytes], ...] = (
    (b"", b""),
    (b"=", b""),
    (b"\xff", b""),
    (b"", b"\xff"),
    (b"\n", b"\n"),
    (b"\t", b""),
    (b"", b"\x1b[31m"),
    ("\u202e".encode(), b""),
    (b"<!--", b"-->"),
    (b'"', b'"'),
    (b"@", b"\r"),
    (b"", b"L" * 255),
    ("長".encode() * 60, b""),
)

HOSTILE_NAMES: tuple[bytes, ...] = tuple(
    dict.fromkeys((before + core + after)[:255] for before, after in _FRAMES for core in _CORES)
)[:500]

assert len(HOSTILE_NAMES) == 500
