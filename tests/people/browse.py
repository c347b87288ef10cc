"""Log in to a running Label Studio, look at a task, answer some: what a person does, in Chromium.

Run by `test_running.py` with the Python of Label Studio's environment, which has playwright. Reads
one JSON object from standard input and prints one: the text of the first page, and what was chosen.
"""

import json
import shutil
import sys

from playwright.sync_api import Page, sync_playwright

WAIT = 60_000


def log_in(page: Page, url: str, user: str, password: str) -> None:
    page.goto(f"{url}/user/login/", wait_until="domcontentloaded", timeout=WAIT)
    page.fill("input[name=email]", user)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda at: "/user/login" not in at, timeout=WAIT)


def open_task(page: Page, url: str, project: int, task: int) -> None:
    page.goto(f"{url}/projects/{project}/data?task={task}", timeout=WAIT)
    page.wait_for_selector(".lsf-main-view, .lsf-editor", timeout=WAIT)
    page.wait_for_selector("input[type=radio]", state="attached", timeout=WAIT)


def main() -> None:
    told = json.load(sys.stdin)
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        log_in(page, told["url"], told["user"], told["password"])
        seen = []
        for task, key in told["answers"]:
            open_task(page, told["url"], told["project"], task)
            page.wait_for_timeout(1500)
            if not seen:
                page.screenshot(path=told["picture"])
            seen.append(page.inner_text("body"))
            page.keyboard.press(key)
            with page.expect_response(lambda r: "/annotations" in r.url, timeout=WAIT) as sent:
                page.get_by_role("button", name="Submit").click(timeout=WAIT)
            assert sent.value.ok, sent.value.status
        browser.close()
    print(json.dumps({"seen": seen}))


if __name__ == "__main__":
    main()
