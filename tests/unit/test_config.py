"""Settings: environment over file, every one with its values, and refusals that say what would be right."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stellwerk.config import LATER, PREFIX, BadSetting, Settings, load_settings


def load(**environment: str) -> Settings:
    return load_settings(environment={PREFIX + name.upper(): value for name, value in environment.items()})


def from_toml(tmp_path: Path, text: str | bytes, environment: dict[str, str] | None = None) -> Settings:
    file = tmp_path / "stellwerk.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_settings(file, environment or {})


@pytest.mark.spec("Design 2")
def test_without_anything_the_defaults_of_the_design_hold() -> None:
    found = load_settings(environment={})
    assert found == Settings()
    assert (found.host, found.http_port, found.coap_port) == ("127.0.0.1", 8080, 5683)
    assert found.data_dir == Path("stellwerk-data")
    assert found.tenant == "default"
    assert found.auto_provision == ()
    assert found.api_token == ""


EVERY: list[tuple[str, str, Any]] = [
    ("data_dir", "/var/lib/stellwerk", Path("/var/lib/stellwerk")),
    ("database_url", "", ""),
    ("host", "0.0.0.0", "0.0.0.0"),
    ("http_port", "0", 0),
    ("http_port", "off", None),
    ("http_port", "OFF", None),
    ("http_port", "65535", 65535),
    ("coap_host", "::1", "::1"),
    ("coap_port", "5700", 5700),
    ("coap_port", "off", None),
    ("coap_tcp", "off", False),
    ("coap_tls", "off", False),
    ("oscore", "off", False),
    ("coap_tcp_connections", "50", 50),
    ("coap_tcp_per_address", "5", 5),
    ("coap_tcp_ping_s", "0", 0.0),
    ("coaps_port", "5700", 5700),
    ("coaps_port", "off", None),
    ("bootstrap_coap_port", "5787", 5787),
    ("bootstrap_coap_port", "off", None),
    ("bootstrap_coaps_port", "0", 0),
    ("bootstrap_coaps_port", "off", None),
    ("bootstrap_sessions", "50", 50),
    ("bootstrap_packs", "off", False),
    ("dtls_cid", "off", False),
    ("dtls_cid_code_points", "54, 53", (54, 53)),
    ("dtls_cbc", "on", True),
    ("dtls_clockless", "on", True),
    ("dtls_session_days", "0.5", 0.5),
    ("dtls_sessions", "1000", 1000),
    ("dtls_half_open", "64", 64),
    ("dtls_handshakes_per_address", "0", 0.0),
    ("dtls_handshakes_per_tenant", "10", 10.0),
    ("dtls_handshakes_with_certificates", "2.5", 2.5),
    ("node_id", "255", 255),
    ("tenant", "acme-2.test_x", "acme-2.test_x"),
    ("admin_password", "correct horse", "correct horse"),
    ("master_key", "0F" * 32, "0F" * 32),
    ("master_key_old", "0F" * 32 + "," + "1a" * 32, "0F" * 32 + "," + "1a" * 32),
    ("api_token", "s3cret", "s3cret"),
    ("api_auth", "off", False),
    ("naming", "Short", "short"),
    ("allow_nosec", "0", False),
    ("container_mni", "20", 20),
    ("container_mbs", "5000", 5000),
    ("gateway_end_devices", "1000", 1000),
    ("queue_s", "3600", 3600.0),
    ("queue_s", "", None),
    ("queue_length", "50", 50),
    ("auto_read", "3, 6,3303", (3, 6, 3303)),
    ("auto_read", "", ()),
    ("auto_read_messages", "on", True),
    ("auto_provision", "load-*, sim-*,", ("load-*", "sim-*")),
    ("auto_provision", "", ()),
    ("expiry_grace_s", "0", 0.0),
    ("awake_s", "12.5", 12.5),
    ("brake_lag_s", "5", 5.0),
    ("echo", "moves", "moves"),
    ("echo", "Off", "off"),
    ("tolerate", "missing-version, queue-in-binding", ("missing-version", "queue-in-binding")),
    ("tolerate", "", ()),
    ("uplinks_extend_lifetime", "on", True),
    ("log_level", "DEBUG", "debug"),
    ("log_format", "json", "json"),
]


@pytest.mark.parametrize(("name", "text", "value"), EVERY)
def test_every_setting_is_read_from_the_environment(name: str, text: str, value: Any) -> None:
    assert getattr(load(**{name: text}), name) == value


def test_every_setting_is_shown_above() -> None:
    assert {name for name, _, _ in EVERY} == {each.name for each in fields(Settings)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("http_port", "65536"),
        ("http_port", "-1"),
        ("http_port", "http"),
        ("http_port", ""),
        ("coap_port", "5683.5"),
        ("coaps_port", "70000"),
        ("dtls_cid_code_points", ""),
        ("dtls_cid_code_points", "54,55"),
        ("dtls_sessions", "0"),
        ("dtls_session_days", "-1"),
        ("dtls_session_days", "50000"),
        ("node_id", "256"),
        ("tenant", ""),
        ("tenant", "a b"),
        ("tenant", "a/b"),
        ("tenant", "_"),
        ("tenant", ".."),
        ("api_token", " "),
        ("api_token", "pässword"),
        ("database_url", "sqlite:///x.db"),
        ("expiry_grace_s", "-1"),
        ("expiry_grace_s", "nan"),
        ("awake_s", "inf"),
        ("awake_s", "soon"),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("database_url", "postgresql://localhost/x"),
        ("data_dir", ""),
        ("admin_password", "short"),
        ("master_key", "0F" * 31),
        ("master_key", "zz" * 32),
        ("master_key_old", "0F" * 32 + "," + "zz" * 32),
        ("api_auth", "perhaps"),
        ("naming", "long"),
        ("container_mni", "0"),
        ("container_mbs", "many"),
        ("gateway_end_devices", "1001"),
        ("queue_s", "-1"),
        ("auto_read", "3,x"),
        ("auto_read", "0"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load(**{name: text})
    assert caught.value.name == PREFIX + name.upper()
    assert caught.value.reason
    assert caught.value.name in str(caught.value)


def test_an_unknown_name_is_refused_and_the_nearest_is_named_or_all_of_them() -> None:
    with pytest.raises(BadSetting, match=r"no such setting; near is STELLWERK_HTTP_PORT$"):
        load(htp_port="8080")
    with pytest.raises(BadSetting, match=r"near is STELLWERK_BOOTSTRAP_COAP_PORT, STELLWERK_BOOTSTRAP_COAPS_PORT$"):
        load(bootstrap_coapport="5687")
    with pytest.raises(
        BadSetting, match=r"the settings are STELLWERK_ADMIN_PASSWORD, .*STELLWERK_UPLINKS_EXTEND_LIFETIME$"
    ):
        load(colour="red")


@pytest.mark.parametrize("name", ["coaps_port", "bootstrap_coap_port", "bootstrap_coaps_port"])
def test_two_listeners_of_coap_cannot_have_one_port(name: str) -> None:
    with pytest.raises(BadSetting, match=f"{name.upper()}=5700: STELLWERK_COAP_PORT has this port too") as caught:
        load(coap_port="5700", **{name: "5700"})
    assert caught.value.name == PREFIX + name.upper()
    assert load(coap_port="0", **{name: "0"}).coap_port == 0
    assert load(coap_port="off", **{name: "off"}).coap_port is None


@pytest.mark.parametrize("name", sorted(LATER))
def test_settings_of_what_comes_later_are_accepted(name: str) -> None:
    assert load_settings(environment={name: "anything"}) == Settings()


def test_other_programs_variables_are_none_of_ours() -> None:
    assert load_settings(environment={"HOME": "/root", "XSTELLWERK_HOST": "x"}) == Settings()


def test_a_file_gives_values_and_the_environment_overrides_them(tmp_path: Path) -> None:
    text = """
        STELLWERK_HTTP_PORT = 9000
        STELLWERK_COAP_PORT = "off"
        STELLWERK_AUTO_PROVISION = ["load-*", " sim-* "]
        STELLWERK_AWAKE_S = 30
        STELLWERK_TENANT = "käfig"
        STELLWERK_NATS_URL = "nats://later"
    """
    found = from_toml(tmp_path, text, {"STELLWERK_HTTP_PORT": "9001"})
    assert (found.http_port, found.coap_port, found.awake_s) == (9001, None, 30.0)
    assert found.auto_provision == ("load-*", "sim-*")
    assert found.tenant == "käfig"


@pytest.mark.parametrize(
    "text",
    [
        "STELLWERK_HTTP_PORT = true",
        "STELLWERK_HTTP_PORT = 80.5",
        "STELLWERK_HTTP_PORT = [80]",
        "STELLWERK_AWAKE_S = true",
        "STELLWERK_AWAKE_S = 1e400",
        "STELLWERK_HOST = 5",
        "STELLWERK_API_TOKEN = ['x']",
        "STELLWERK_DATA_DIR = 1",
        "STELLWERK_AUTO_PROVISION = [1, 2]",
        "STELLWERK_LOG_LEVEL = 3",
        "STELLWERK_TENANT = 7",
        "[stellwerk]\nhost = 'x'",
        "HOST = 'x'",
        "not toml",
        b"STELLWERK_HOST = '\xff'",
    ],
)
def test_a_file_with_a_wrong_value_or_shape_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(BadSetting):
        from_toml(tmp_path, text)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="No such file"):
        load_settings(tmp_path / "missing.toml", {})
    with pytest.raises(BadSetting):
        load_settings(tmp_path, {})


_VALUES = st.recursive(
    st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from([each.name for each in fields(Settings)]), _VALUES)
@hypothesis_settings(max_examples=80, deadline=None)
def test_any_value_is_taken_or_refused_as_a_bad_setting(name: str, value: Any) -> None:
    try:
        found = load_settings(environment={PREFIX + name.upper(): value})
    except BadSetting:
        return
    assert isinstance(getattr(found, name), Path | str | int | float | tuple | None)


def test_no_secret_shows_itself_in_a_refusal_or_a_repr(tmp_path):
    file = tmp_path / "stellwerk.toml"
    file.write_text("STELLWERK_API_TOKEN = 123456789")
    with pytest.raises(BadSetting) as number:
        load_settings(file, {})
    with pytest.raises(BadSetting) as misspelt:
        load_settings(None, {"STELLWERK_ADMIN_PASWORD": "hunter2hunter2"})
    assert "STELLWERK_ADMIN_PASWORD" in str(misspelt.value)
    chosen = load_settings(None, {"STELLWERK_API_TOKEN": "s3cret", "STELLWERK_ADMIN_PASSWORD": "hunter2hunter2"})
    said = f"{number.value!s} {misspelt.value!s} {chosen!r}"
    assert not any(each in said for each in ("123456789", "hunter2", "s3cret"))
