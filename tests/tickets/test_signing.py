"""Signatures: the check itself, the files that keys travel in, and `keys`, `sign` and `verify` as people use them."""

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import tiny_bundle
from tickets.bundle import parse
from tickets.inspect import verify as verify_command
from tickets.sign_commands import keys
from tickets.sign_commands import sign as sign_command
from tickets.signing import (
    PREFIX,
    PassphraseNeeded,
    Signature,
    SigningError,
    new_private,
    parse_public,
    public_text,
    read_private,
    read_public,
    read_signature,
    sign,
    signature_bytes,
    verify,
    write_private,
    write_signature,
)

PRIVATE = new_private()
PUBLIC = public_text(PRIVATE)
TICKET = "ab" * 32


def on(command: object, *arguments: object, typed: str | None = None) -> Result:
    return CliRunner(env={"TOMBOLA_PASSPHRASE": None, "TOMBOLA_SIGNING_KEY": None}).invoke(
        command,  # type: ignore[arg-type]
        [str(argument) for argument in arguments],
        input=typed,
    )


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.ticket"
    path.write_bytes(tiny_bundle())
    return path


class TestTheCheck:
    def test_a_signature_holds_for_its_key_and_its_ticket_only(self) -> None:
        made = sign(PRIVATE, TICKET)
        assert len(made) == 64
        assert verify(PUBLIC, TICKET, made)
        assert verify(PUBLIC.rstrip("="), TICKET, made), "with or without padding"
        assert not verify(PUBLIC, "cd" * 32, made)
        assert not verify(public_text(new_private()), TICKET, made)

    def test_what_is_signed_is_the_prefix_and_the_id_so_that_nothing_else_signed_counts(self) -> None:
        PRIVATE.public_key().verify(sign(PRIVATE, TICKET), PREFIX + TICKET.encode())
        assert not verify(PUBLIC, TICKET, PRIVATE.sign(TICKET.encode()))

    @given(st.integers(0, 511))
    def test_one_flipped_bit_anywhere_breaks_it(self, bit: int) -> None:
        made = bytearray(sign(PRIVATE, TICKET))
        made[bit // 8] ^= 1 << bit % 8
        assert not verify(PUBLIC, TICKET, bytes(made))

    @given(st.text(max_size=60), st.text(max_size=70), st.binary(max_size=80))
    def test_anything_malformed_is_no_signature_and_no_error(self, public: str, ticket: str, made: bytes) -> None:
        assert not verify(public, TICKET, made)
        assert not verify(PUBLIC, ticket, made)

    def test_what_is_no_id_is_not_signed(self) -> None:
        for wrong in ("", TICKET.upper(), TICKET + "\n", "ab"):
            with pytest.raises(SigningError):
                sign(PRIVATE, wrong)


class TestFiles:
    def test_a_private_key_is_the_owners_alone_and_is_never_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "a.key"
        write_private(path, PRIVATE)
        assert path.stat().st_mode & 0o777 == 0o600
        assert public_text(read_private(path)) == PUBLIC
        with pytest.raises(FileExistsError):
            write_private(path, new_private())

    def test_an_encrypted_key_needs_its_passphrase(self, tmp_path: Path) -> None:
        path = tmp_path / "a.key"
        write_private(path, PRIVATE, "correct horse")
        assert public_text(read_private(path, "correct horse")) == PUBLIC
        with pytest.raises(PassphraseNeeded):
            read_private(path)
        with pytest.raises(SigningError, match="passphrase is wrong"):
            read_private(path, "battery staple")

    def test_a_passphrase_for_a_key_that_has_none_is_said(self, tmp_path: Path) -> None:
        path = tmp_path / "a.key"
        write_private(path, PRIVATE)
        with pytest.raises(SigningError, match="not encrypted"):
            read_private(path, "correct horse")

    def test_other_files_are_no_keys(self, tmp_path: Path) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import x25519

        other = x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for content, says in ((b"", "no private key"), (other, "another kind"), (b"x" * 100_000, "too large")):
            (tmp_path / "a.key").write_bytes(content)
            with pytest.raises(SigningError, match=says):
                read_private(tmp_path / "a.key")

    def test_a_public_line_is_a_name_and_32_bytes(self, tmp_path: Path) -> None:
        assert parse_public(f"release={PUBLIC}\n") == ("release", PUBLIC)
        for wrong in ("", "release", "release=AAAA", f"Re lease={PUBLIC}", f"={PUBLIC}", f"a={PUBLIC}AA", "a=äöü"):
            with pytest.raises(SigningError):
                parse_public(wrong)
        (tmp_path / "a.pub").write_bytes(b"\xff\xfe")
        with pytest.raises(SigningError, match="not a public key"):
            read_public(tmp_path / "a.pub")

    def test_a_signature_file_says_whose_and_of_what(self, tmp_path: Path) -> None:
        written = Signature(
            signer="release", ticket=TICKET, signature=base64.b64encode(sign(PRIVATE, TICKET)).decode()
        )  # fmt: skip
        path = tmp_path / "a.sig"
        write_signature(path, written)
        assert read_signature(path) == written
        assert written.header == f"release:{written.signature}"

    @pytest.mark.parametrize(
        "change",
        [{"signer": "a b"}, {"signer": ""}, {"ticket": "ab"}, {"signature": "AAAA"}, {"signature": "?"}, {"more": 1}],
    )
    def test_a_damaged_signature_file_is_refused(self, tmp_path: Path, change: dict[str, object]) -> None:
        good = {"signer": "a", "ticket": TICKET, "signature": base64.b64encode(bytes(64)).decode()}
        (tmp_path / "a.sig").write_text(json.dumps(good | change))
        with pytest.raises(SigningError):
            read_signature(tmp_path / "a.sig")


class TestCommands:
    def test_a_new_key_signs_a_ticket_that_verify_then_believes(self, tmp_path: Path, ticket: Path) -> None:
        made = on(keys, "new", "release", "--dir", tmp_path / "keys")
        assert made.exit_code == 0, made.output
        public = tmp_path / "keys" / "release.pub"
        assert f"--signer {public}" in made.output
        shown = on(keys, "show", public).output
        assert shown == on(keys, "show", tmp_path / "keys" / "release.key").output
        assert parse_public(shown) == read_public(public)

        signed = on(sign_command, ticket, "--key", tmp_path / "keys" / "release.key")
        assert signed.exit_code == 0, signed.output
        written = read_signature(tmp_path / "tiny.ticket.sig")
        assert (written.signer, written.ticket) == ("release", parse(ticket.read_bytes()).id)
        assert verify(read_public(public)[1], written.ticket, signature_bytes(written.signature))

        checked = on(verify_command, ticket, "--public", public)
        assert checked.exit_code == 0, checked.output
        assert checked.output.endswith("(signed by release)\n")

    def test_verify_says_what_is_wrong_with_a_signature(self, tmp_path: Path, ticket: Path) -> None:
        for name in ("release", "other"):
            assert on(keys, "new", name, "--dir", tmp_path).exit_code == 0
        unsigned = on(verify_command, ticket, "--public", tmp_path / "release.pub")
        assert unsigned.exit_code == 1
        assert "bad_signature: there is no" in unsigned.output
        assert on(sign_command, ticket, "--key", tmp_path / "other.key").exit_code == 0
        foreign = on(verify_command, ticket, "--public", tmp_path / "release.pub")
        assert foreign.exit_code == 1
        assert "is not a signature of release" in foreign.output
        ticket.write_bytes(tiny_bundle("accurate"))
        stale = on(verify_command, ticket, "--public", tmp_path / "other.pub", "--signature", f"{ticket}.sig")
        assert stale.exit_code == 1
        assert "is of another ticket" in stale.output

    def test_an_encrypted_key_asks_for_its_passphrase_and_never_shows_it(self, tmp_path: Path, ticket: Path) -> None:
        made = on(keys, "new", "release", "--dir", tmp_path, "--encrypt", typed="correct horse\ncorrect horse\n")
        assert made.exit_code == 0, made.output
        assert b"ENCRYPTED" in (tmp_path / "release.key").read_bytes()
        signed = on(sign_command, ticket, "--key", tmp_path / "release.key", typed="correct horse\n")
        assert signed.exit_code == 0, signed.output
        assert "correct horse" not in made.output + signed.output
        wrong = on(sign_command, ticket, "--key", tmp_path / "release.key", typed="battery\n")
        assert wrong.exit_code == 1
        assert "passphrase is wrong" in wrong.output

    def test_a_key_is_not_made_over_another_one(self, tmp_path: Path) -> None:
        assert on(keys, "new", "release", "--dir", tmp_path).exit_code == 0
        before = (tmp_path / "release.key").read_bytes()
        again = on(keys, "new", "release", "--dir", tmp_path)
        assert again.exit_code == 1
        assert "never replaced" in again.output
        assert (tmp_path / "release.key").read_bytes() == before

    def test_a_name_that_no_policy_could_hold_is_refused(self, tmp_path: Path, ticket: Path) -> None:
        assert on(keys, "new", "../up", "--dir", tmp_path).exit_code == 2
        assert on(keys, "new", "a", "--dir", tmp_path).exit_code == 0
        assert on(sign_command, ticket, "--key", tmp_path / "a.key", "--signer", "A B").exit_code == 2

    def test_what_is_no_ticket_is_not_signed(self, tmp_path: Path) -> None:
        assert on(keys, "new", "a", "--dir", tmp_path).exit_code == 0
        (tmp_path / "b.ticket").write_bytes(b"no ticket")
        result = on(sign_command, tmp_path / "b.ticket", "--key", tmp_path / "a.key")
        assert result.exit_code == 1
        assert "is not signed" in result.output
        assert not (tmp_path / "b.ticket.sig").exists()

    @pytest.mark.parametrize("arguments", [("new", "--help"), ("show", "--help")])
    def test_every_help_shows_an_example(self, arguments: tuple[str, ...]) -> None:
        assert "Example: tombola keys" in on(keys, *arguments).output

    def test_sign_help_shows_an_example(self) -> None:
        assert "Example: tombola sign" in on(sign_command, "--help").output
