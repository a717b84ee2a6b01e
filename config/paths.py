"""User folders for data, configuration and cache, as the platform has them."""

from __future__ import annotations

from pathlib import Path

import platformdirs

_APP = "bt-daemon"


def default_database() -> Path:
    """Return the database file in the user's data folder."""
    return platformdirs.user_data_path(_APP) / "results.db"


def cache_folder() -> Path:
    """Return the folder for what can be made again: compiled engines, decoded training images."""
    return platformdirs.user_cache_path(_APP)


def user_config_file() -> Path:
    """Return the configuration file in the user's configuration folder."""
    return platformdirs.user_config_path(_APP) / "bt.toml"
