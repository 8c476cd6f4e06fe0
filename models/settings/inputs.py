"""Settings of what may be submitted: sources, inputs and uploaded files."""

from pathlib import Path

from pydantic import BaseModel, Field, field_validator

from models.settings.lists import FolderList, WordList


class InputSettings(BaseModel):
    """Limits on sources and inputs, and the store of uploaded files."""

    source_schemes: WordList = Field(
        default=(),
        description="URL schemes that sources may use: `s3,gs,hf`, with fsspec's package for each; unset: none.",
    )
    source_roots: FolderList | None = Field(
        default=None,
        description="Absolute folders under which source files must lie, links followed: `/data,/more`; unset: any "
        "folder.",
    )
    source_timeout_seconds: float = Field(
        default=60.0, gt=0, description="How long a source behind a URL may be silent."
    )
    max_input_characters: int = Field(
        default=1_000_000, ge=1, le=1_000_000, description="Most characters of one input, all its texts together."
    )
    max_source_bytes: int = Field(
        default=16 * 2**30, ge=1, description="Most bytes of one submission's source, over all its files, decompressed."
    )
    max_source_rows: int = Field(default=100_000_000, ge=1, description="Most rows of one submission's source.")

    file_store: str | None = Field(
        default=None,
        repr=False,
        description="Where servers keep uploaded files: a folder of this machine, or the URL of a store that several "
        "servers share, such as `file:///mnt/files` or `s3://bucket/files`; unset: `files` under home.",
    )
    max_upload_bytes: int = Field(
        default=2 * 2**30, ge=1, description="Most bytes of one uploaded file, as it is sent."
    )
    keep_uploads_days: float = Field(
        default=30.0, gt=0, le=3650, description="After how many days uploaded files are deleted, at the latest."
    )

    @field_validator("source_roots")
    @classmethod
    def _check_absolute(cls, folders: tuple[Path, ...] | None) -> tuple[Path, ...] | None:
        for folder in folders or ():
            if not folder.expanduser().is_absolute():
                raise ValueError(f"{str(folder)[:80]!r} is no absolute path, and processes start in many folders")
        return folders
