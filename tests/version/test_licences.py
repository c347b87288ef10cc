import pytest

from prefdata.version.licences import conflicts, unstated


def manifest(*licences, sources=()):
    named = {f"s{at}": each for at, each in enumerate(licences)}
    return {"licenses": named, "counts": {"sources": dict.fromkeys([*named, *sources], 1)}}


@pytest.mark.parametrize(
    "licences",
    [
        (),
        ("mit",),
        ("mit", "apache-2.0", "cc-by-4.0", "odc-by", "cc0-1.0"),
        ("cc-by-sa-3.0", "cc-by-sa-4.0", "mit"),
        ("cc-by-nc-4.0", "mit"),
        ("cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
        ("of its own", "mit"),
    ],
)
def test_licences_that_can_be_kept_together(licences):
    assert conflicts(manifest(*licences)) == []
    assert conflicts(manifest(*licences[::-1])) == []


@pytest.mark.parametrize(
    ("licences", "said"),
    [
        (("cc-by-sa-4.0", "odbl"), "each want the whole"),
        (("gpl-3.0", "cc-by-sa-4.0"), "each want the whole"),
        (("CC-BY-SA-4.0", "cc-by-nc-4.0"), "forbids commercial use"),
        (("cc-by-nc-sa-4.0", "cc-by-sa-4.0"), "each want the whole"),
        (("cc-by-nd-4.0",), "changed copies"),
    ],
)
def test_licences_that_cannot(licences, said):
    for order in (licences, licences[::-1]):
        (found,) = conflicts(manifest(*order))
        assert said in found
        assert all(each.lower() in found for each in licences)


def test_sources_without_a_licence_are_named():
    assert unstated(manifest("mit", sources=["b", "a"])) == ["a", "b"]
    assert unstated(manifest("mit")) == []
