"""Reading the URL of a Redis: every form, and that no password is ever quoted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.redis.url import read_url, redacted

SECRET = "s3cret-w0rd"


@pytest.mark.parametrize(
    ("url", "kind", "nodes", "rest"),
    [
        ("redis://localhost", "server", [("localhost", 6379)], {}),
        ("redis://[::1]:7000/3", "server", [("::1", 7000)], {"db": 3}),
        ("redis://localhost/?db=2", "server", [("localhost", 6379)], {"db": 2}),
        ("redis://u:p%40%2F%3A%23@h:1", "server", [("h", 1)], {"username": "u", "password": "p@/:#"}),
        ("redis://:p@h", "server", [("h", 6379)], {"password": "p"}),
        ("redis://u:a@b@h", "server", [("h", 6379)], {"username": "u", "password": "a@b"}),
        ("unix:///run/r.sock", "socket", [], {"path": "/run/r.sock"}),
        ("unix://u:p@/run/r%20s.sock?db=4", "socket", [], {"path": "/run/r s.sock", "db": 4, "username": "u"}),
        ("redis+sentinel://a:1,b,[::1]:3/main", "sentinel", [("a", 1), ("b", 26379), ("::1", 3)], {"service": "main"}),
        ("redis+sentinel://u:p@a/my-main/5", "sentinel", [("a", 26379)], {"service": "my-main", "db": 5}),
        (
            "redis+sentinel://a/m?sentinel_username=s&sentinel_password=t", "sentinel", [("a", 26379)],
            {"sentinel_username": "s", "sentinel_password": "t"},
        ),
        ("redis+cluster://u:p@a:1,b:2", "cluster", [("a", 1), ("b", 2)], {"username": "u", "password": "p"}),
        ("rediss+cluster://a", "cluster", [("a", 6379)], {"is_tls": True}),
    ],
)  # fmt: skip
def test_each_form_is_read(url: str, kind: str, nodes: list[tuple[str, int]], rest: dict[str, object]) -> None:
    address = read_url(url)
    assert (address.kind, list(address.nodes)) == (kind, nodes)
    assert {name: getattr(address, name) for name in rest} == rest


@pytest.mark.parametrize("scheme", ["rediss://h", "rediss+sentinel://h/main", "rediss+cluster://h"])
class TestTls:
    def test_certificates_and_names_are_checked_unless_said_otherwise(self, scheme: str) -> None:
        address = read_url(scheme)
        assert address.is_tls
        assert dict(address.tls) == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}

    def test_files_and_checks_are_options(self, scheme: str) -> None:
        tls = read_url(f"{scheme}?ssl_ca_certs=/ca.pem&ssl_certfile=/c&ssl_keyfile=/k&ssl_check_hostname=no").tls
        assert dict(tls) == {
            "ssl_ca_certs": "/ca.pem", "ssl_certfile": "/c", "ssl_keyfile": "/k",
            "ssl_cert_reqs": "required", "ssl_check_hostname": False,
        }  # fmt: skip

    def test_no_check_of_the_certificate_is_none_of_the_name(self, scheme: str) -> None:
        assert read_url(f"{scheme}?ssl_cert_reqs=none").tls["ssl_check_hostname"] is False


BAD = [
    "", "localhost", "http://u:{}@localhost", "redis://", "redis://h:port", "redis://h:0", "redis://h:70000",
    "redis://u:{}/x@h", "redis://u:{}#x@h", "redis://u:{}?x@h", "redis://u:{} x@h", "redis://u:[{}@h", "redis://h/x",
    "redis://h/1/2", "redis://h/1?db=2", "redis://h?db=-1", "redis://h?password={}", "redis://h?ssl_ca_certs=/x",
    "redis://h:1,h:2", "unix://", "unix://relative.sock", "unix:///s?decode_responses={}", "redis+sentinel://u:{}@h",
    "redis+sentinel://h/bad name", "redis+sentinel:///main", "redis+sentinel://h/m/1/2", "redis+cluster://h/1",
    "redis+cluster://h?db=1", "rediss://h?ssl_cert_reqs=maybe", "rediss://h?ssl_check_hostname=maybe", "redis:///0",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD)
def test_what_cannot_be_is_refused_with_the_accepted_forms_and_without_the_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"use redis://\[user:password@\]host") as error:
        read_url(url.replace("{}", SECRET))
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert redacted(url.replace("{}", SECRET)) == "(not a Redis URL)"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:{}@h:7/2", "redis://u:***@h:7?db=2"),
        ("redis://:{}@h", "redis://:***@h:6379"),
        ("redis://h", "redis://h:6379"),
        ("unix://u:{}@/run/r.sock", "unix://u:***@/run/r.sock"),
        ("rediss+sentinel://u:{}@a,b/main?sentinel_password={}", "rediss+sentinel://u:***@a:26379,b:26379/main"),
        ("redis+cluster://u:{}@a:1,b:2", "redis+cluster://u:***@a:1,b:2"),
    ],
)
def test_what_is_shown_of_a_url_holds_no_password(url: str, shown: str) -> None:
    address = read_url(url.replace("{}", SECRET))
    assert str(address) == shown == redacted(url.replace("{}", SECRET))
    assert repr(address) == f"Address({shown})"


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"redis://{text}", f"rediss+sentinel://{text}", f"redis+cluster://u:{text}@h"):
        try:
            said = str(read_url(url))
        except ValueError as error:
            said = str(error)
        assert "://" in said
