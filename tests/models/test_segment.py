"""A line says whether it is what was written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdata.models import segment
from prefdata.models.client import response
from prefdata.models.segment import Entry
from tests.models.kept import SPEC, asked

REQUEST = asked(["Größe?\n"], draw=2).row(0, named=True)
ANSWER = response(REQUEST["request_id"], text="é \u2028 done", tokens_in=7, logprobs=[])
LINE = segment.line(1_700_000_000_000, REQUEST, ANSWER)[:-1]


def test_a_line_says_what_was_written():
    entry = segment.read(LINE)
    assert isinstance(entry, Entry)
    assert entry.time == segment.stamp(LINE) == 1_700_000_000_000
    assert entry.response == {
        "text": "é \u2028 done",
        "tokens_in": 7,
        "tokens_out": 0,
        "logprobs": [],
    }
    assert entry.request["options"] == {"temperature": 0.5, "stop": ["é\n"]}
    assert entry.request["model"] == SPEC.identity()
    assert segment.answer(LINE) == {"request_id": REQUEST["request_id"], **entry.response}
    assert not segment.answers_another(entry)


@given(at=st.integers(0, len(LINE) - 19), bit=st.integers(0, 7))
def test_a_line_of_which_one_bit_turned_is_not_believed(at: int, bit: int):
    turned = bytearray(LINE)
    turned[at] ^= 1 << bit
    assert segment.answer(bytes(turned)) is None
    assert isinstance(segment.read(bytes(turned)), str)
    assert isinstance(segment.stamp(bytes(turned)), str)


@given(cut=st.integers(0, len(LINE) - 1))
def test_a_line_that_was_cut_is_not_believed(cut: int):
    assert segment.answer(LINE[:cut]) is None
    assert isinstance(segment.stamp(LINE[:cut]), str)


def test_lines_of_before_there_were_checksums_are_read():
    old = LINE[: LINE.rindex(b',"crc"')] + b"}"
    assert segment.answer(old) == segment.answer(LINE)
    assert segment.read(old) == segment.read(LINE)
    assert segment.stamp(old) == segment.stamp(LINE)


def with_vector(vector: list[float]) -> bytes:
    said = response(REQUEST["request_id"], vector=vector)
    return segment.line(1_700_000_000_000, REQUEST, said)[:-1]


def vector_of(line: bytes) -> list[float]:
    entry, answer = segment.read(line), segment.answer(line)
    assert isinstance(entry, Entry)
    assert answer is not None
    assert list(answer["vector"]) == entry.response["vector"]
    return entry.response["vector"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_a_vector_comes_back_to_the_last_bit(vector: list[float]):
    assert list(map(float.hex, vector_of(with_vector(vector)))) == list(map(float.hex, vector))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=50))
def test_states_of_a_model_take_six_bytes_a_number(vector: list[float]):
    line = with_vector(vector)
    assert list(map(float.hex, vector_of(line))) == list(map(float.hex, vector))
    assert len(line) - len(with_vector([])) <= 16 * (len(vector) + 2) / 3


def test_vectors_that_were_kept_as_decimals_are_read():
    text = with_vector([0.5, -1e-300]).decode()
    said = json.loads(text[21:])
    said["response"]["vector"] = [0.5, -1e-300]
    del said["crc"]
    old = f"{text[:21]}{json.dumps(said, separators=(',', ':'))}".encode()
    assert vector_of(old) == [0.5, -1e-300]


@pytest.mark.parametrize("kept", ["f4:AAA", "f4:AAAA", "f2:AAAA", "AAAA", "f8:****", ""])
def test_a_vector_that_cannot_be_read_is_no_answer(kept: str):
    said = json.loads(with_vector([0.5])[21:])
    said["response"]["vector"] = kept
    del said["crc"]
    line = f"{REQUEST['request_id']} {json.dumps(said, separators=(',', ':'))}".encode()
    assert segment.answer(line) is None
    assert "vector" in str(segment.read(line))


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_it_fail(data: bytes):
    for line in (data, LINE[:45] + data, LINE[:45] + data + b"}}"):
        assert segment.answer(line) is None or isinstance(segment.stamp(line), int | str)
        assert isinstance(segment.read(line), Entry | str)


@pytest.mark.parametrize(
    "changed", [{"draw": 3}, {"want": "choice"}, {"model": "other"}, {"options": '{"top_p":0.1}'}]
)
def test_an_answer_to_another_request_is_noticed(changed: dict[str, object]):
    entry = segment.read(segment.line(1_700_000_000_000, {**REQUEST, **changed}, ANSWER)[:-1])
    assert isinstance(entry, Entry)
    assert segment.answers_another(entry)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_the_id_can_be_computed_again_whatever_the_options(value: object):
    spec = SPEC.model_copy(update={"options": {"extra": value}})
    request = asked(["x"], spec).row(0, named=True)
    line = segment.line(1_700_000_000_000, request, response(request["request_id"], text="y"))
    entry = segment.read(line[:-1])
    assert isinstance(entry, Entry)
    assert not segment.answers_another(entry)
    assert json.loads(line[21:])["request"]["draw"] == 0
