import pytest

from shared.enrolment_token import LONGEST, EnrolmentToken, parse
from shared.ids import new_enrolment_id, new_secret

TOKEN = EnrolmentToken(new_enrolment_id(), new_secret(), "0f" * 32)  # type: ignore[arg-type]


def test_both_ways() -> None:
    assert parse(TOKEN.text) == TOKEN
    assert len(TOKEN.text) == LONGEST
    assert TOKEN.secret not in repr(TOKEN)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text + "\n",
        lambda text: text[:-1],
        lambda text: text.upper(),
        lambda text: "t-" + text[2:],
        lambda text: text.replace(".", "", 1),
        lambda text: text + ".x",
        lambda text: text * 1000,
        lambda text: text.replace("e-", "é-"),
    ],
    ids=range(9),
)
def test_what_is_none(change) -> None:
    assert parse(change(str(TOKEN.text))) is None
