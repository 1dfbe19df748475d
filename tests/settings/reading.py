"""Settings as a start reads them, and the line that it ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from services.errors import SettingError
from services.settings.settings import Settings, error_line, load
from services.settings.table import SETTINGS

KEY = "dXNoZXItdGVzdC1rZXktdXNoZXItdGVzdC1rZXktMDE="  # the same for every xdist worker
HIDDEN = "hunter2hunter2"
SECONDS = [setting.name for setting in SETTINGS if setting.name.endswith("_SECONDS")]
# With these nothing is generated and DATA_DIR is not touched.
COMPLETE = {
    "USHER_DATABASE_URL": "postgresql://usher@db/usher",
    "USHER_REDIS_URL": "redis://cache",
    "USHER_JWT_SECRETS": "s" * 32,
    "USHER_ENCRYPTION_KEYS": KEY,
}


def read(environ: Mapping[str, str] | None = None, argv: Sequence[str] = ()) -> Settings:
    return load({**COMPLETE, **(environ or {})}, argv)


def line_for(environ: Mapping[str, str], argv: Sequence[str] = ()) -> str:
    with pytest.raises(SettingError) as error:
        read(environ, argv)
    line = error_line(error.value)
    assert line.isprintable()
    return line
