"""How the migration library finds our revisions: no ini file."""

from pathlib import Path

from alembic.config import Config

_HERE = Path(__file__).parent


def configuration(line: str) -> Config:
    """For the line ``deciding`` or ``projected``."""
    config = Config()
    # A percent sign in the installation's path would be an interpolation.
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.set_main_option("version_locations", str(_HERE / line).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config
