# The pages made from the code are what the code makes today, and say what it does.

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from config.make_settings import example
from tests.certificate import self_signed
from tests.docs.pages import PAGES, ROOT, VERSIONED
from worker.settings import load
from worker.settings.setting_rows import NAME, rows

if TYPE_CHECKING:
    from pathlib import Path

KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"


@pytest.mark.parametrize("name", PAGES)
def test_the_file_is_fresh(name: str) -> None:
    """If it is not: ``make docs``."""
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name]()


@pytest.mark.parametrize("name", VERSIONED)
def test_a_file_that_names_the_version_names_it_where_it_is_looked_for(name: str) -> None:
    """Else a new version would pass it by."""
    assert re.search(VERSIONED[name], (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY)
    return path


def test_the_example_is_a_file_that_the_worker_accepts_and_means_the_defaults(
    key_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "worker.yaml"
    path.write_text(example())

    settings = load(path, {"WORKER_TENCENT__APPS__MAIN__SECRET_KEY_FILE": str(key_file)})

    for row in rows():
        if row.section is None and not row.required and NAME not in row.path:
            value = settings
            for word in row.path:
                value = getattr(value, word)
            assert value == row.default, row.name


def test_the_example_is_accepted_with_everything_uncommented(key_file: Path, tmp_path: Path) -> None:
    """Except for the other halves of what is given already, and files that exist on a real machine only."""
    uncommented = re.sub(
        r"^( *)# ((?:  )*(?:- )?[A-Za-z_/]+:( .*)?)$", r"\1\2", example(), flags=re.MULTILINE
    )
    data = yaml.safe_load(uncommented)
    app = data["tencent"]["apps"]["main"]
    del app["secret_key"], app["base_url"]
    app["secret_key_file"] = str(key_file)
    authority = tmp_path / "ca.crt"
    authority.write_text(self_signed()[0])
    data["kafka"]["common"]["ssl_cafile"] = data["http"]["ca_file"] = str(authority)
    credentials = tmp_path / "credentials"
    credentials.write_text("user:password")
    data["http"]["proxy_credentials_file"] = str(credentials)
    data["kafka"]["common"]["sasl_plain_password_file"] = str(key_file)
    oauth = data["kafka"].pop("oauth")
    del data["kafka"]["aws_msk_iam"]
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(data))

    settings = load(path, {})
    data["kafka"]["oauth"] = {**oauth, "client_secret_file": str(key_file), "ca_file": str(authority)}
    data["kafka"]["common"] = {"security_protocol": "SASL_SSL"}
    path.write_text(yaml.safe_dump(data))
    with_tokens = load(path, {})

    assert with_tokens.kafka.oauth.scope == "kafka"
    assert settings.kafka.instance_id == "moderation-worker-0"
    assert settings.limits.per_endpoint == {"group_open_http_svc/ban_group_member": 400}


def test_every_setting_is_in_the_example_with_its_description() -> None:
    text = example()

    for row in rows():
        word = "main" if row.path[-1] == NAME else row.path[-1]
        assert re.search(rf"^ *(# )?{re.escape(word)}:", text, re.MULTILINE), row.name
        words = re.sub(r"[\s#]+", " ", text)
        assert re.sub(r"[\s#]+", " ", row.about) in words, row.name
