import polars as pl
import pytest

from prefdata.errors import PushError
from prefdata.hub.finding import masked
from prefdata.hub.personal import personal

# Made up, in valid forms: the published examples of those who issue them where there are such.
HELD = {
    "jane.doe+x@mail.gmail.com": "email address",
    "jane.doe＠gmail.com": "email address",
    "jane.doe [at] gmail [dot] com": "email address",
    "jane(AT)mail.gmail.com": "email address",
    "jane@müller.de": "email address",
    "+49 30 901820": "phone number",
    "(212) 736-5000": "phone number",
    "8.8.8.8": "IP address",
    "4539 1488 0343 6467": "card number",
    "4539148803436467": "card number",
    "DE89 3704 0044 0532 0130 00": "bank account (IBAN)",
    "GB29NWBK60161331926819": "bank account (IBAN)",
    "536-22-1234": "national number (US)",
    "390.533.447-05": "national number (BR)",
    "123-456-782": "national number (CA)",
    "54362315-K": "national number (ES)",
    "X2482300W": "national number (ES)",
    "131052-308T": "national number (FI)",
    "2 95 10 99 126 111 93": "national number (FR)",
    "2341 2341 2346": "national number (IN)",
    "RCCMNL83S18D969H": "national number (IT)",
    "880320-0016": "national number (SE)",
}
NOBODY = [
    "user@example.com, a@b.test, me@localhost, x@mail.example.org",
    "user＠example.com, a[at]b(dot)test, x (at) mail.example.org",
    "see me @ noon. Then f(at) least, [at] most 5.5, @user.name and a[i].at(3).b",
    "192.168.0.1, 10.0.0.1, 127.0.0.1, 300.1.1.1, 203.0.113.7",
    "4539148803436468",  # its last digit is wrong
    "GB29NWBK60161331926818",
    "078-05-1120",  # an advertisement's, never valid since
    "0.29166667 and 18000 / 42000 and 1,234,567",
    "2024-01-15 12:30:45, 1999-2003, pages 350-375",
    "https://www.google.com/maps/@37.3362725,-121.9",
    "3.14159265358979",
    "born in 1985, lives at 12 Main Street",
]


def frame(*texts):
    return pl.DataFrame(
        {"place": [f"at {i}" for i in range(len(texts))], "text": texts},
        schema={"place": pl.String, "text": pl.String},
    )


@pytest.mark.parametrize(("text", "kind"), HELD.items())
def test_each_form_is_found_in_a_sentence(text, kind):
    found = personal(frame("Nothing here.", f"It is {text}, as they say."))
    assert (kind, "at 1", text) in found.rows()
    assert {*found["place"]} == {"at 1"}


@pytest.mark.parametrize("text", NOBODY)
def test_what_is_of_nobody_is_not_found(text):
    assert personal(frame(text)).is_empty()


def test_numbers_without_a_country_are_dialled_in_the_region():
    berlin = frame("Ruf 030 901820 an")
    assert personal(berlin, "US").is_empty()
    assert personal(berlin, "DE")["kind"].to_list() == ["phone number"]
    with pytest.raises(PushError, match="'Germany'"):
        personal(berlin, "Germany")


def test_no_texts_hold_nothing():
    assert personal(frame()).is_empty()


@pytest.mark.parametrize("text", HELD)
def test_what_is_shown_is_the_form(text):
    shown = masked(text)
    assert len(shown) == len(text)
    assert shown[:2] == text[:2]
    assert not any(each.isalnum() for each in shown[2:])


def test_real_conversations_hold_some(shared):
    """In 4,125 texts of HH-RLHF, read by hand: five addresses of mail and one number like SSNs."""
    rows = shared("hh_rlhf_harmless_test_pairs.parquet")
    texts = pl.concat([rows[side] for side in ("prompt", "chosen", "rejected")]).unique()
    found = personal(frame(*texts))
    mails = {*found.filter(kind="email address")["sample"]}
    assert {"mike@robertlight.com", "stevedaine@microsoft.com", "kathy.bates@gmail.com"} <= mails
    assert found.filter(kind="national number (US)")["sample"].to_list() == ["859-56-0028"]
    assert found["place"].n_unique() / texts.len() < 0.01
