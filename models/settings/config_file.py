"""The file of the settings, `batchmill.toml`, and where it is looked for."""

import os
from pathlib import Path

from models.errors import SettingsError
from models.settings.home_folder import home_of_environment

CONFIG_NAME = "batchmill.toml"


def settings_place() -> str:
    """Return the path of batchmill.toml with a colon, as the start of a message; empty without such a file."""
    file = config_file()
    return f"{file.absolute()}: " if file else ""


def config_file() -> Path | None:
    """Find the batchmill.toml to use: `BATCHMILL_CONFIG`, else the current folder's, else the one in the home.

    Raises SettingsError if `BATCHMILL_CONFIG` is not a file.
    """
    path = os.environ.get("BATCHMILL_CONFIG")
    if path:
        if not Path(path).is_file():
            raise SettingsError(f"BATCHMILL_CONFIG names {path}, which is not a file")
        return Path(path)
    home = home_of_environment()
    return next((path for path in (Path(CONFIG_NAME), home / CONFIG_NAME) if path.is_file()), None)
