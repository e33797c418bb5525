"""No secret leaves the process in a text, and what a program reads again keeps its meaning."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from visionloop.core import secrets, texts, variables
from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.core.secrets import CREDENTIALS, HIDDEN, ROLES, SECRETS, redact, redact_fields, redact_urls

KEY = 'aB3/x+y"z%&<ü>8'


@pytest.mark.parametrize("name", [entry.name for entry in SECRETS])
def test_a_secret_is_found_however_it_is_spelt(name: str) -> None:
    spellings = [KEY, quote(KEY), quote(KEY, safe=""), quote_plus(KEY), html.escape(KEY), repr(KEY)[1:-1]]
    spellings += [json.dumps(KEY)[1:-1], base64.b64encode(KEY.encode()).decode()]
    spellings += [base64.urlsafe_b64encode(KEY.encode()).decode()]
    for spelling in spellings:
        assert redact(f"the answer was [{spelling}] again", {name: KEY}) == f"the answer was [{HIDDEN}] again"


def test_a_user_and_password_as_http_sends_them_are_found() -> None:
    for entry in SECRETS:
        if entry.user:
            header = base64.b64encode(b"somebody:password-of-mine").decode()
            assert redact(header, {entry.user: "somebody", entry.name: "password-of-mine"}) == HIDDEN


def test_the_address_of_messages_is_found_by_its_path_too() -> None:
    held = {"VISIONLOOP_NOTIFY_URL": "https://hooks.example.com/services/T0/B0/abcdef?token=xyz"}
    retried = (
        "Retrying (Retry(total=1)) after connection broken by 'NewConnectionError': /services/T0/B0/abcdef?token=xyz"
    )
    assert redact(retried, held).endswith(f": {HIDDEN}")
    assert "hooks.example.com" in redact("a receiver at hooks.example.com", held)


def test_one_of_several_cookies_and_a_line_of_a_value_are_found() -> None:
    assert redact("b=second-cookie", {"KFP_COOKIES": "a=first-cookie; b=second-cookie"}) == f"b={HIDDEN}"
    assert redact("at second-line", {"ARGO_TOKEN": "first-line\nsecond-line"}) == f"at {HIDDEN}"
    assert redact("sent abcdefgh", {"ARGO_TOKEN": "Bearer abcdefgh"}) == f"sent {HIDDEN}"


def test_the_password_of_an_address_in_any_variable_is_found() -> None:
    held = {"HTTPS_PROXY": "http://me:proxy-pass%21@proxy:3128", "MLFLOW_TRACKING_URI": "https://a:tracking-pass@m"}
    assert redact("proxy-pass! and tracking-pass", held) == f"{HIDDEN} and {HIDDEN}"


def test_what_became_known_while_it_ran_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_remembered", set())
    secrets.remember("token-of-a-file\n")
    assert redact("Bearer token-of-a-file") == f"Bearer {HIDDEN}"


def test_a_short_value_and_a_key_id_are_left_alone() -> None:
    held = {"S3_SECRET_KEY": "train", "S3_ACCESS_KEY": "visionloop-key-id"}
    assert redact("train with visionloop-key-id", held) == "train with visionloop-key-id"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:word@h/d?X-Amz-Signature=a1&part=1", "https://***@h/d?X-Amz-Signature=***&part=1"),
        ("https://user:with/slash@h/d", "https://***@h/d"),
        ("(postgresql://u:p@h:5432/m)", "(postgresql://***@h:5432/m)"),
        ("https://h/a?Signature=x%2B&Expires=1#top", "https://h/a?Signature=***&Expires=1#top"),
        ("https://h/a?x-amz-credential=c&X-Amz-Security-Token=t", "https://h/a?x-amz-credential=***&X-Amz-Security-Token=***"),
        ("https://a.blob/x?sv=1&sig=abc", "https://a.blob/x?sv=1&sig=***"),
        ("https://h/?token=a;key=b", "https://h/?token=***;key=***"),
        ("pkcs11:token=slot;object=k?pin-value=1234", "pkcs11:token=slot;object=k?pin-value=***"),
    ],
)  # fmt: skip
def test_passwords_go_from_urls(text: str, shown: str) -> None:
    assert redact_urls(text) == shown
    assert redact_fields({"a": [text, 1, None], "b": {"c": text}}) == {"a": [shown, 1, None], "b": {"c": shown}}


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/prefix/a@b",
        "http://host:8080/a@b",
        "http://[::1]:8080/a@b",
        "file:///data/a?key=1",
        "/data/a?key=1&token=2",
        "train=0.8;key=4",
        "models:/name@champion",
        'a "https://h", "b@c"',
        "registry.example.com/vision@sha256:abc",
    ],
)
def test_what_only_looks_like_a_password_stays(text: str) -> None:
    assert redact_urls(text) == text


def test_a_sentence_is_one_line_without_secrets_and_without_characters_that_act(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INTERNAL_S3_SECRET_KEY", "secret-of-results")
    error = InvalidDataset("a\n\x1b[31mred\u202eevil\u2066\ud800 secret-of-results; https://u:p@h/x.")
    assert error.sentence == r"a \x1b[31mred\u202eevil\u2066\ud800 ***; https://***@h/x."
    error.sentence.encode()


def test_json_means_the_same_with_every_character_visible() -> None:
    value = {"name": "a\x9bb\u202ec\u2028d", "url": "https://u:p@h/"}
    line = texts.json_line(value)
    assert line.isprintable()
    assert json.loads(line) == {"name": "a\x9bb\u202ec\u2028d", "url": "https://***@h/"}


def test_variables_are_stripped_and_put_back() -> None:
    held = {"EXTERNAL_S3_SECRET_KEY": "key\n", "JOB_ID": " run ", "PS1": "$ ", "MODEL_NAME": "yolo11n"}
    variables.prepare(held)
    assert held == {"EXTERNAL_S3_SECRET_KEY": "key", "JOB_ID": "run", "PS1": "$ ", "MODEL_NAME": "yolo11n"}


@pytest.mark.parametrize("name", [entry.name for entry in SECRETS])
def test_a_line_break_inside_a_secret_is_refused_by_the_variables_name(name: str) -> None:
    with pytest.raises(InvalidConfig, match=name) as raised:
        variables.prepare({name: "first-half\nsecond-half"})
    assert "half" not in str(raised.value)


def test_a_key_id_may_be_anything() -> None:
    held = {entry.name: "two\nlines" for entry in CREDENTIALS if not entry.secret}
    variables.prepare(held)
    assert set(held.values()) == {"two\nlines"}


def test_each_credential_has_a_role_that_a_secret_is_named_by() -> None:
    assert {entry.role for entry in CREDENTIALS} - {None} == set(ROLES)
    assert len({entry.name for entry in CREDENTIALS}) == len(CREDENTIALS)
