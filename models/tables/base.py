"""The declarative base of every table."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Text
from sqlalchemy.orm import DeclarativeBase

from models.dialects.columns import Document, UtcDateTime


class Base(DeclarativeBase):
    """The declarative base of every table."""

    type_annotation_map = {str: Text(), int: BigInteger(), datetime: UtcDateTime(), dict[str, Any]: Document}  # noqa: RUF012
