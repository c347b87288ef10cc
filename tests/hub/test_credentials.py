import sys

import polars as pl
import pytest

from prefdata.errors import PushError
from prefdata.hub.credentials import BLOCK, credentials, detectors
from prefdata.hub.finding import findings

# Made up in the forms in which they are issued; none was ever a key.
KEYS = [
    "AKIAIOSFODNN7EXAMPLQ",
    "ghp_" + "a1B2" * 9,
    "hf_" + "abcdEFGH" * 4,
    "sk-" + "proj-abcdEFGH1234" * 3,
    "xoxb-123456789012-abcdefghij",
    "AIza" + "abcdEFGH" * 4,
    "sk_live_" + "a1B2c3" * 4,
    "postgres://user:s3cr3tpass@db.internal/x",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "SG." + "a1B2c3D4e5F6g7H8i9J0k1" + "." + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1v",
]
PROSE = [
    "The key to a good password is its length; never use hunter2.",
    'password = "changeme"',
    "def token(text): return text.split()[0]",
    "https://example.org/a?b=c#d",
    "A hash: 9e107d9d372bb6826bd81d3542a419d6",
    "sk-learn and hf_hub are libraries",
]


def frame(texts):
    return pl.DataFrame({"place": [f"at {i}" for i in range(len(texts))], "text": texts})


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:8])
def test_a_key_in_a_sentence_is_found_once(key):
    found = credentials(frame(["Nothing here", f"Please use {key} for it, not another"]))
    assert found["place"].to_list() == ["at 1"]
    assert found["sample"][0] in key


def test_prose_and_code_about_keys_have_none():
    assert credentials(frame(PROSE)).is_empty()


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, 2 * BLOCK])
def test_wherever_it_stands(at):
    texts = ["nothing"] * (2 * BLOCK + 1)
    texts[at] = KEYS[0]
    assert credentials(frame(texts))["place"].to_list() == [f"at {at}"]


def test_a_finding_shows_the_form_and_never_the_key():
    (found,) = findings("secrets", credentials(frame([f"a {KEYS[0]}", f"b {KEYS[0]}"])))
    assert (found.n, found.says) == (2, "AWS Access Key")
    assert [each["text"] for each in found.examples] == ["AK" + "•" * 18] * 2
    assert [each["place"] for each in found.examples] == ["at 0", "at 1"]


def test_no_texts_hold_nothing():
    assert credentials(frame([]).cast(pl.String)).is_empty()
    assert findings("secrets", credentials(frame([]).cast(pl.String))) == []


def test_without_the_library_nothing_is_believed_to_be_clean(monkeypatch):
    monkeypatch.setitem(sys.modules, "detect_secrets.core.plugins.util", None)
    detectors.cache_clear()
    with pytest.raises(PushError, match=r"prefdata\[hub\]"):
        credentials(frame(["nothing"]))


def test_real_answers_of_models_have_none(shared):
    outputs = shared("alpacaeval_outputs.parquet")["output"].unique().head(1000)
    assert credentials(frame(outputs.to_list())).is_empty()
