# The settings of section `tencent`, each with its default and the reason for it.
#
# What two settings may not be together is not here (cross_checks.py); the key's file is read here, but never kept.

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from worker.errors import FileError, SignatureError
from worker.secret_key import KEY_FILE_BYTES, is_secret_key
from worker.settings import types
from worker.settings.section import SettingsSection
from worker.small_files import read_text


class AppSettings(SettingsSection):
    """One Tencent app (SDKAppID) with its admin, key and region."""

    sdk_app_id: Annotated[types.Whole, Field(ge=1, le=4_294_967_295)] = Field(
        description="The app's SDKAppID."
    )
    identifier: types.User = Field(
        description="The app administrator in whose name calls are made. No command may act on it."
    )
    secret_key: types.Key | None = Field(
        default=None,
        description="The signing key. Prefer secret_key_file: more people can read an environment or a settings file.",
    )
    secret_key_file: types.File | None = Field(
        default=None,
        description="A file that contains only the key. It is read again when Tencent refuses the signature.",
    )
    region: types.Region | None = Field(default=None, description="The app's region. Give this or base_url.")
    base_url: types.Url | None = Field(
        default=None,
        description="The API's address, for a backup domain, a gateway or the local simulator. Give this or region.",
    )

    def key(self) -> str:
        """Return the secret key, **bare**; a file is read at each call. Raises SignatureError if it is missing or cannot be a key."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
        if self.secret_key_file is None:
            raise SignatureError("neither secret_key nor secret_key_file is set")
        try:
            key = read_text(self.secret_key_file, KEY_FILE_BYTES).strip()
        except FileError as error:
            raise SignatureError(f"secret_key_file cannot be read: {error}") from None
        if not is_secret_key(key):
            raise SignatureError(
                "secret_key_file is empty, or holds something else than a key (it has blanks or quotation marks, or is too long)"
            )
        return key


class TencentSettings(SettingsSection):
    """The apps that commands act on."""

    default_app: str | None = Field(
        default=None,
        description="The app of commands that name none. With a single app it is that one, and need not be named here.",
    )
    protected_users: types.Users = Field(
        default=(),
        description="Users that no command may act on: commands that name one are rejected. Each app's identifier always is one.",
    )
    apps: dict[str, AppSettings] = Field(
        description="The apps by name. A command names one in its field `app`. Apps of one release share partitions, so a "
        "halted app eventually holds up the others: use one release per app to isolate them."
    )

    @property
    def app_by_default(self) -> str | None:
        """The app of commands that name none, or None if they must."""
        return next(iter(self.apps)) if self.default_app is None and len(self.apps) == 1 else self.default_app
