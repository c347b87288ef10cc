"""The protocol server speaks as the `openai` package does, so tests against it mean something."""

import json
from typing import Any

import pytest

openai = pytest.importorskip("openai")


def line(name: str, text: str, model: str = "repeatable") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    asked = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(asked)


@pytest.fixture
def client(server: Any) -> Any:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def hand_over(client: Any, *lines: str) -> Any:
    content = "".join(f"{each}\n" for each in lines).encode()
    file = client.files.create(file=("asked.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"who": "test"},
    )


def test_a_batch_goes_its_way(server: Any, client: Any):
    server.fault("400", match="bad")
    made = hand_over(client, line("a", "one"), line("b", "bad"), line("c", "three"))
    assert made.status == "validating"
    done = client.batches.retrieve(made.id)
    assert (done.status, done.metadata) == ("completed", {"who": "test"})
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    output = client.files.content(done.output_file_id).text.splitlines()
    assert [json.loads(each)["custom_id"] for each in output] == ["a", "c"]
    (error,) = client.files.content(done.error_file_id).text.splitlines()
    assert json.loads(error)["response"]["status_code"] == 400
    alone = client.chat.completions.create(
        model="repeatable", messages=[{"role": "user", "content": "one"}]
    )
    said = json.loads(output[0])["response"]["body"]["choices"][0]["message"]["content"]
    assert said == alone.choices[0].message.content


def test_batches_are_listed_page_by_page_and_cancelled(server: Any, client: Any):
    server.batches.seconds = 60.0
    made = [hand_over(client, line("a", f"text {i}"), line("b", "more")).id for i in range(5)]
    assert [each.id for each in client.batches.list(limit=2)] == made[::-1]
    assert client.batches.retrieve(made[0]).status == "in_progress"
    cancelled = client.batches.cancel(made[0])
    assert cancelled.status == "cancelled"
    assert cancelled.request_counts.completed == 1
    (error,) = client.files.content(cancelled.error_file_id).text.splitlines()
    assert json.loads(error)["error"]["code"] == "batch_cancelled"


def test_a_file_that_is_wrong_fails_as_a_whole(client: Any):
    twice = client.batches.retrieve(hand_over(client, line("a", "x"), line("a", "y")).id)
    assert (twice.status, twice.errors.data[0].code) == ("failed", "duplicate_custom_id")
    mixed = client.batches.retrieve(hand_over(client, line("a", "x"), line("b", "y", "other")).id)
    assert (mixed.status, mixed.errors.data[0].code) == ("failed", "mismatched_model")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("401", openai.AuthenticationError),
        ("429", openai.RateLimitError),
        ("503", openai.InternalServerError),
        ("cut", openai.APIConnectionError),
    ],
)
def test_faults_are_what_the_package_takes_them_for(
    kind: str, error: type[Exception], server: Any, client: Any
):
    server.fault(kind)
    with pytest.raises(error):
        hand_over(client, line("a", "x"))
    with pytest.raises(error):
        client.embeddings.create(model="repeatable", input="x")
