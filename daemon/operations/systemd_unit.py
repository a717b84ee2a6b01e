"""systemd unit of a daemon: notified, watched over and sandboxed (systemd.service(5), systemd.exec(5))."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# A first start compiles the network.
_START_SECONDS = 600
_WATCHDOG_SECONDS = 60
# Longer than the daemon takes to finish and store what its workers have.
_STOP_SECONDS = 15

# MemoryDenyWriteExecute is left out: the engine makes its kernels at run time. ProcSubset=pid too: the watch
# limits of inotify and the mount table are read in /proc.
_SANDBOX = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices={private_devices}
PrivateUsers={private_users}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies={families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
UMask=0077
"""


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What a unit is made of; all paths are absolute."""

    command: tuple[str, ...]
    folders: tuple[Path, ...]  # that are watched
    writable: tuple[Path, ...]  # folders that are written to
    user: str = ""  # "": the unit of a user's own manager
    state: str = ""  # folder below /var/lib that systemd makes for the user
    cache: str = ""  # folder below /var/cache
    memory_bytes: int = 4 << 30
    gpu: bool = False
    network: bool = False
    environment: tuple[tuple[str, str], ...] = field(default=())


def unit_text(plan: UnitPlan) -> str:
    """Return the unit file."""
    of_system = bool(plan.user)
    sandbox = _SANDBOX.format(
        home="read-only",
        private_devices="no" if plan.gpu else "yes",
        private_users="yes" if of_system else "no",
        families="AF_UNIX AF_INET AF_INET6" if plan.network else "AF_UNIX",
    )
    alone = "" if plan.network else "PrivateNetwork=yes\nIPAddressDeny=any\n"
    variables = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in plan.environment)
    writable = " ".join(_quoted(f"-{place}") for place in plan.writable)
    mounts = " ".join(_quoted(str(place)) for place in (*plan.folders, *plan.writable))
    return f"""\
[Unit]
Description=bt-daemon judges images that arrive (research use only, not a medical device)
After=local-fs.target remote-fs.target
RequiresMountsFor={mounts}
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join(map(_quoted, plan.command))}
{f"User={plan.user}{chr(10)}" if of_system else ""}{variables}Restart=on-failure
RestartSec=5
# Wrong usage or settings, a database of a newer version: starting again changes nothing.
RestartPreventExitStatus=2
TimeoutStartSec={_START_SECONDS}
TimeoutStopSec={_STOP_SECONDS}
WatchdogSec={_WATCHDOG_SECONDS}
MemoryMax={plan.memory_bytes}
ReadWritePaths={writable}
{_made_folders(plan)}{alone}{sandbox}
[Install]
WantedBy={"multi-user.target" if of_system else "default.target"}
"""


def _made_folders(plan: UnitPlan) -> str:
    """Return the lines for folders that systemd makes, for the unit's user alone."""
    folders = (("State", plan.state), ("Cache", plan.cache))
    return "".join(f"{kind}Directory={name}\n{kind}DirectoryMode=0700\n" for kind, name in folders if name)


def unit_place(name: str, *, of_user: bool, config_home: str) -> Path:
    """Return where a unit belongs."""
    if of_user:
        return Path(config_home) / "systemd" / "user" / f"{name}.service"
    return Path("/etc/systemd/system") / f"{name}.service"


def written_folders(paths: Sequence[str]) -> tuple[Path, ...]:
    """Return the folders of paths that are not empty, absolute, each once."""
    return tuple(dict.fromkeys(Path(os.path.abspath(path)) for path in paths if path))


def _quoted(text: str) -> str:
    """Return a word as systemd.syntax(7) reads it: % and $ are its own, quotes and backslashes escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != text or not text or set(text) & set(" \t\n';#") else text
