"""What tickets cannot be called is refused before anything is trained, with what they can."""

import pytest

from tickets.factory.names import check_names


@pytest.mark.parametrize(
    ("domain", "label", "tier", "says"),
    [
        ("Kitchen & dining", "pour", "fast", "a domain cannot be called 'Kitchen & dining'"),
        ("kitchen", "pour", "very fast", "a tier cannot be called 'very fast'"),
        ("kitchen", "pour", "a/b", "a tier cannot be called 'a/b'"),
        ("", "pour", "fast", "a domain cannot be called ''"),
        ("k" * 40, "pour", "f" * 40, "shorten the domain or the tier"),
        ("kitchen", "p" * 257, "fast", "1 to 256 characters; this one has 257"),
    ],
)
def test_a_name_that_no_manifest_takes_is_refused(domain: str, label: str, tier: str, says: str) -> None:
    """The first one, by its kind."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        check_names(domain, ["stir", label], ["slow", tier])
    assert says in str(refused.value)


def test_names_of_any_usual_form_pass() -> None:
    """CLINC150's and Banking77's; labels may be any text."""
    check_names("kitchen_and_dining", ["Refund_not_showing_up", "Ärger?"], ["accurate", "fast-2", "v1.5"])
