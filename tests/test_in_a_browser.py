"""What models and people wrote does nothing on the page of a version, in a real browser.

The same texts on a page without any care do what they can, so that a browser that would not obey
them anywhere does not count as a proof.
"""

import html
import http.server
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefdata import tables
from prefdata.version.page import page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium, on the path"),
]
MARK = "document.documentElement.setAttribute(`data-ran`,1)"
# {js} marks the document; {url} is a server that counts who asks it.
ATTEMPTS = [
    "<script>{js}</script>",
    "<ScRiPt >{js}</sCrIpT>",
    "</title><script>{js}</script>",
    "</style><script>{js}</script>",
    "--><script>{js}</script><!--",
    "]]><script>{js}</script>",
    "\"'><script>{js}</script>",
    "<scr<script>ipt>{js}</scr</script>ipt>",
    "<script src={url}/a.js></script>",
    "<script type=module>import '{url}/b.js'</script>",
    "<img src=x onerror={js}>",
    "<img src='{url}/pixel.png'>",
    "<IMG \"\"\"><SCRIPT>{js}</SCRIPT>\">",
    "<img/src='x'/onerror={js}>",
    "<svg onload={js}>",
    "<svg><script>{js}</script></svg>",
    "<svg><animate onbegin={js} attributeName=x dur=1s>",
    "<svg><foreignObject><iframe srcdoc='<script>parent.{js}</script>'></foreignObject></svg>",
    "<body onload={js}>",
    "<input autofocus onfocus={js}>",
    "<details open ontoggle={js}>x</details>",
    "<video><source onerror={js}></video>",
    "<audio src=x onerror={js}>",
    "<iframe src='javascript:parent.{js}'></iframe>",
    "<iframe src='{url}/frame'></iframe>",
    "<object data='{url}/object'></object>",
    "<embed src='{url}/embed'>",
    "<link rel=stylesheet href='{url}/style.css'>",
    "<style>@import '{url}/import.css';</style>",
    "<style>body{{background:url('{url}/back.png')}}</style>",
    "<div style=\"background:url('{url}/style.png')\">x</div>",
    "<meta http-equiv=refresh content='0;url={url}/refresh'>",
    "<base href='{url}/'>",
    "<form action='{url}/form'><input name=x></form><script>document.forms[0].submit()</script>",
    "<math><mtext><table><mglyph><style><img src=x onerror={js}>",
    "<noscript><p title=\"</noscript><img src=x onerror={js}>\">",
    "<template><img src=x onerror={js}></template><img src=x onerror={js}>",
    "<a href='javascript:{js}' autofocus onfocus={js}>x</a>",
    "&lt;script&gt;{js}&lt;/script&gt;<script>{js}</script>",
    "\x00<script>{js}</script>",
    "\u202e<script>{js}</script>",
    "+ADw-script+AD4-{js}+ADw-/script+AD4-",
    "<img src=x onerror=\u2028{js}>",
    "{{{{constructor.constructor('{js}')()}}}}<img src=x onerror={js}>",
    "[x](javascript:{js}) ![x]({url}/markdown.png) <img src='{url}/m.png'>",
    # A polyglot, which ends whatever it may stand in.
    "jaVasCript:/*-/*`/*\\`/*'/*\"/**/(/* */oNcliCk={js} )//%0D%0A%0d%0a//</stYle/</titLe/"
    "</teXtarEa/</scRipt/--!>\\x3csVg/<sVg/oNloAd={js}//>\\x3e",
    "<marquee onstart={js}>x</marquee>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload={js}></svg>#x'/></svg>",
    "<svg><set attributeName=x onbegin={js}></svg>",
    "<math href='javascript:{js}'><mi xlink:href='javascript:{js}'>x</mi></math>",
    "<p style='animation:x' onanimationstart={js}><style>@keyframes x{{}}</style>",
    "<link rel=prefetch href='{url}/prefetch'><link rel=dns-prefetch href='{url}/dns'>",
    "<meta http-equiv=Content-Security-Policy content=\"script-src *\"><script>{js}</script>",
    "<textarea autofocus onfocus={js}></textarea><select autofocus onfocus={js}></select>",
    "<img srcset='{url}/set.png' src=x><picture><source srcset='{url}/p.png'><img></picture>",
    "\u2028\u2029<script>{js}</script>\ufeff",
]  # fmt: skip


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and the paths that it was asked for."""
    paths: list[str] = []

    class Counting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def shown(file: Path) -> str:
    """The document after a browser has had the page for a while."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory() as profile:
        ran = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
             "--disable-background-networking", "--no-first-run", "--virtual-time-budget=4000",
             "--dump-dom", file.as_uri()],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert "</html>" in ran.stdout, ran.stderr[-2000:]
    return ran.stdout


def attempts(url: str) -> list[str]:
    return [each.format(js=MARK, url=url) for each in ATTEMPTS]


def attacked(texts: list[str], world: Any) -> str:
    """The page of a version in which every text that somebody wrote is an attempt."""
    evil = cycle(texts)

    def said(role: str) -> list[dict[str, str]]:
        return [{"role": role, "content": next(evil)}]

    made = world(24, 2)
    prompts, completions, votes = made["prompts"], made["completions"], made["votes"]
    prompts = prompts.with_columns(
        tables.conversations("prompt", [said("user") for _ in range(24)])
    )
    completions = completions.with_columns(
        tables.conversations("completion", [said("assistant") for _ in range(48)])
    )

    def written(n: int) -> pl.Series:
        return pl.Series([next(evil) for _ in range(n)], dtype=pl.String)

    votes = votes.with_columns(
        rationale=written(votes.height), annotator=written(votes.height),
        criterion=written(votes.height), unscored=written(votes.height),
    )  # fmt: skip
    scores = (
        made["pairs"]
        .select(subject_id="pair_id", subject=pl.lit("pair"))
        .with_columns(score=written(24), model=written(24), value=pl.int_range(24).cast(pl.Float64))
    )
    dropped = pl.DataFrame({"stage": texts, "table": texts, "reason": texts, "key": texts})
    name = "".join(texts)
    manifest = {
        "name": name, "id": name, "description": name,
        "partial": {"reason": name, "missing": {name: 3}},
        "exports": {name: {"splits": {"train": 3}}},
        "counts": {
            "stages": [{"stage": name, "use": name, "table": "pairs", "in": 3, "out": 3}],
            "spent": {name: dict.fromkeys("requests cached tokens_in tokens_out cost".split(), 1)},
            "requests": {name: 3}, "cost": 1,
        },
    }  # fmt: skip
    return page(
        manifest,
        {"prompts": prompts, "completions": completions, "votes": votes, "pairs": made["pairs"],
         "scores": scores, "dropped": dropped},
    )  # fmt: skip


def has_run(seen: str) -> bool:
    """Whether the document was marked; that a text about marks is shown is no mark."""
    return re.search(r"<html[^>]*data-ran", seen) is not None


def test_on_a_page_without_care_they_do_what_they_can(tmp_path: Path, asked: Any):
    url, paths = asked
    file = tmp_path / "careless.html"
    for text in ("<img src=x onerror={js}>", "".join(ATTEMPTS[8:14])):
        said = text.format(js=MARK, url=url)
        file.write_text(f"<!doctype html><html><body>{said}</body></html>", "utf-8")
        assert has_run(shown(file))
    assert {"/a.js", "/pixel.png"} <= set(paths)


def test_on_the_page_of_a_version_they_do_nothing(tmp_path: Path, asked: Any, world: Any):
    url, paths = asked
    texts = attempts(url)
    assert len(set(texts)) >= 30
    text = attacked(texts, world)
    for each in texts:
        # Nothing is lost of it but what no page may hold, or what would turn the text round.
        assert html.escape(each.replace("\x00", "").replace("\u202e", "")) in text
    file = tmp_path / "report.html"
    file.write_text(text, "utf-8")
    seen = shown(file)
    assert not has_run(seen)
    assert paths == []
    for tag in ("<script", "<img", "<iframe", "<object", "<embed", "<link", "<base", "<form"):
        assert tag not in seen.lower()


def test_its_policy_stops_what_would_get_through(tmp_path: Path, asked: Any, world: Any):
    """If one day a text is not escaped: the page's own policy still lets nothing run or out."""
    url, paths = asked
    text = attacked(["harmless"], world)
    raw = "".join(attempts(url)).replace("http-equiv=refresh", "")  # of which no policy knows
    file = tmp_path / "report.html"
    file.write_text(text.replace("</main>", f"{raw}</main>"), "utf-8")
    seen = shown(file)
    assert not has_run(seen)
    assert paths == []
