"""Tokens: where they come from, what they may be, and that only the right one opens."""

import pytest

from lob.errors import InputError
from serve.admin_access import TOKEN_VARIABLE, AdminAccess, AdminToken, find_token

TOKEN = "sixteen-or-more-characters"


def test_the_file_counts_before_the_variable_and_neither_is_none(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert find_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert find_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "the-variables-own-token")
    assert find_token(None).matches("Bearer the-variables-own-token")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    found = find_token(tmp_path / "token")
    assert found.matches(f"Bearer {TOKEN}")
    assert not found.matches("Bearer the-variables-own-token")


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 1_025, "with spaces in between", "umlaut-äöü-äöü-äöü", "a\tb" * 9]
)
def test_what_is_no_token_is_refused_without_saying_it(token) -> None:
    with pytest.raises(InputError) as caught:
        AdminToken(token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"x" * 5_000])
def test_a_file_that_holds_none_is_refused(tmp_path, content) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(InputError, match="admin token"):
        find_token(tmp_path / "token")
    with pytest.raises(InputError, match="cannot be read"):
        find_token(tmp_path / "absent")


@pytest.mark.parametrize(
    ("header", "opens"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Bearer  {TOKEN} ", True),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Bearer {TOKEN.upper()}", False),
        (f"Basic {TOKEN}", False),
        (f"Bearer{TOKEN}", False),
        (TOKEN, False),
        ("", False),
        ("Bearer \xff\udcff", False),
    ],
)
def test_only_the_token_behind_bearer_opens(header, opens) -> None:
    assert AdminToken(TOKEN).matches(header) is opens


def test_the_token_is_not_kept() -> None:
    token = AdminToken(TOKEN)
    assert TOKEN not in repr(token)
    assert TOKEN not in repr(vars(token))


def test_each_kind_of_request_has_a_budget_that_refills() -> None:
    now = [0.0]
    access = AdminAccess(AdminToken(TOKEN), lambda: now[0])
    wrong = [access.status("Bearer wrong") for _ in range(25)]
    assert wrong == [401] * 20 + [429] * 5
    assert [access.status(f"Bearer {TOKEN}") for _ in range(25)] == [200] * 20 + [429] * 5
    now[0] = 1.0
    assert [access.status(f"Bearer {TOKEN}") for _ in range(3)] == [200, 200, 429]
    assert access.refused == 25
