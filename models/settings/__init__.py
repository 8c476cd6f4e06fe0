"""All settings, resolved in the order flag > environment (`BATCHMILL_…`) > batchmill.toml > default."""

from models.settings.config_file import CONFIG_NAME as CONFIG_NAME
from models.settings.config_file import config_file as config_file
from models.settings.config_file import settings_place as settings_place
from models.settings.home_folder import model_hashes_file as model_hashes_file
from models.settings.settings import Settings as Settings
from models.settings.settings import unknown_variables as unknown_variables
