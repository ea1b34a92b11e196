# The page in a real browser: what it shows to which reader, and what it does not let happen. Pictures of it go to PAGE_PICTURES, if set.

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web

from tests.page.browser import opened
from tests.page.served import HOSTILE, Scene, endpoint, served
from tests.unit.domain.engine_harness import ban
from worker.runtime.status_server import ReadinessObstacle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from tests.page.browser import Tab

HALTED = ReadinessObstacle("main is halted: no permission", "make the identifier an administrator")


def look(browser: Path, scene: Scene, seen: Callable[[Tab, str], Coroutine[Any, Any, None]]) -> None:
    """Let a tab look at the scene; afterwards the browser must have complained of nothing, and have asked nobody else."""

    async def looked() -> None:
        async with served(scene) as port, opened(browser) as tab:
            url = f"http://127.0.0.1:{port}/"
            await seen(tab, url)
            assert tab.faults == []
            assert {request for request in tab.requests if not request.startswith((url, "data:"))} == set()

    asyncio.run(looked())


@pytest.mark.parametrize("width", [1280, 360], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_sticks_out(browser: Path, axe: str, scheme: str, width: int) -> None:
    async def seen(tab: Tab, url: str) -> None:
        await tab.look_as(scheme, width)
        await tab.open(url)
        await look_up(tab, "u0")
        await tab.value(axe)
        found = await tab.value("axe.run().then((it) => ({bad: it.violations, passed: it.passes.length}))")
        if pictures := os.environ.get("PAGE_PICTURES"):
            picture = await tab.picture()
            await asyncio.to_thread(Path(pictures, f"{scheme}-{width}.png").write_bytes, picture)
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["bad"]] == []
        assert found["passed"] > 20
        assert await tab.value("document.documentElement.scrollWidth") <= width
        assert await tab.value("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")

    scene = Scene()
    scene.raid()
    scene.obstacles = [HALTED]
    look(browser, scene, seen)


async def text_of(tab: Tab, selector: str) -> str:
    return str(await tab.value(f"document.querySelector({json.dumps(selector)}).textContent"))


async def look_up(tab: Tab, asked: str) -> None:
    await tab.value(f"document.getElementById('q').value = {json.dumps(asked)}")
    await tab.value("document.getElementById('look-said').textContent = ''")
    await tab.value("document.getElementById('look').requestSubmit()")
    await tab.until("document.getElementById('look-said').textContent !== ''")


def test_hostile_names_are_text_and_nothing_of_them_runs(browser: Path) -> None:
    """Whoever may write a command chooses names. The person who looks is an operator, with an operator's rights."""

    async def seen(tab: Tab, url: str) -> None:
        await tab.value("window.alert = (it) => { throw new Error('ran: ' + it) }")
        await tab.open(url)
        await look_up(tab, HOSTILE)

        assert await tab.value("document.querySelectorAll('img').length") == 0
        assert "<img src=x" in await text_of(tab, "#controls")
        assert await tab.value("document.scripts.length") == 1
        shown = await text_of(tab, "#failures")
        assert "<img src=x onerror=alert(1)>" in shown
        assert "\u202e" not in shown
        assert "\\u202e" in shown
        assert len(shown) < 5_000
        assert await tab.value("document.getElementById('look-list').children.length") == 2

    scene = Scene()
    scene.raid()
    look(browser, scene, seen)


def test_what_gets_into_the_page_all_the_same_may_not_run_and_may_not_tell(browser: Path) -> None:
    """The second line: the policy allows the page's own script, and requests to the worker alone."""

    async def looked() -> None:
        async with served(Scene()) as port, opened(browser) as tab:
            await tab.open(f"http://127.0.0.1:{port}/")
            await tab.value("""(() => {
                const script = document.createElement('script');
                script.textContent = 'window.ran = true';
                document.body.append(script);
                document.body.insertAdjacentHTML('beforeend', '<b onclick="window.ran = true">x</b>');
                document.body.lastElementChild.click();
            })()""")
            assert await tab.value("window.ran === undefined")
            elsewhere = f"http://localhost:{port}/readyz"
            assert (
                await tab.value(
                    f"fetch({elsewhere!r}, {{mode: 'no-cors'}}).then(() => 'sent', () => 'blocked')"
                )
                == "blocked"
            )
            assert [fault for fault in tab.faults if "Content Security Policy" in fault]

    asyncio.run(looked())


def test_everything_is_reached_with_the_keyboard_in_the_order_of_reading(browser: Path) -> None:
    async def seen(tab: Tab, url: str) -> None:
        await tab.open(url)

        reached = []
        for _ in range(4):
            await tab.press("Tab")
            reached.append(await tab.focused())
            assert await tab.value("getComputedStyle(document.activeElement).outlineStyle") != "none", (
                "one does not see where one is"
            )
        assert reached == ["Skip to the content", "pause", "q", "Look up"]

        await tab.value("document.getElementById('q').focus()")
        for key in "u1":
            await tab.press(key)
        await tab.press("Enter")
        await tab.until("document.getElementById('look-list').children.length === 1")
        assert await tab.focused() == "q"
        assert "u1" in await text_of(tab, "#look-list")
        assert "2030-03-16 03:00:00" in await text_of(tab, "#look-list"), "it was not today"

    scene = Scene()
    scene.work(ban("u1", "u2"), finished_at="2030-03-16T03:00:00.000Z")
    look(browser, scene, seen)


def test_it_stays_up_to_date_and_keeps_the_focus_and_tells_of_a_change(browser: Path) -> None:
    async def seen(tab: Tab, url: str) -> None:
        await tab.open(url)
        await tab.value("document.getElementById('q').focus()")
        assert await tab.value("document.title") == "moderation-worker-0: moderation-worker"

        scene.obstacles = [HALTED]
        scene.observe(endpoint(permits_used=77, limited_by="quota", waiting=5))
        scene.work(ban("u1"))

        await tab.until("document.getElementById('ready').textContent === 'not ready'")
        assert await tab.value("document.title") == "Not ready: moderation-worker-0: moderation-worker"
        assert HALTED.reason in await text_of(tab, "[role=status]")
        assert str(HALTED.remedy) in await text_of(tab, "#obstacles")
        card = await text_of(tab, "#endpoints")
        assert "Limited by the quota" in card
        assert "77 of 200 in use" in card
        assert "77 now, 77 at most" in await tab.value(
            "document.querySelector('svg').getAttribute('aria-label')"
        )
        assert await tab.focused() == "q"

    scene = Scene()
    look(browser, scene, seen)


def test_a_worker_that_is_gone_is_said_and_one_that_is_back_as_well(browser: Path) -> None:
    """The worst page is one that shows what was, as if it were now."""

    async def looked() -> None:
        scene = Scene()
        async with opened(browser) as tab:
            async with served(scene) as port:
                await tab.open(f"http://127.0.0.1:{port}/")
                assert await tab.value("document.getElementById('lost').hidden")
            await tab.until("!document.getElementById('lost').hidden")
            assert "What is shown is old" in await text_of(tab, "#lost")
            async with served(scene, port):
                await tab.until("document.getElementById('lost').hidden")

    asyncio.run(looked())


def test_updates_can_be_paused(browser: Path) -> None:
    """Whoever reads, or has it read, needs it to stand still."""

    async def seen(tab: Tab, url: str) -> None:
        await tab.open(url)
        await tab.value("document.getElementById('pause').click()")
        assert await tab.value("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
        asked = len(tab.requests)
        await tab.value("new Promise((done) => setTimeout(done, 2 * EVERY))")
        assert len(tab.requests) == asked

        await tab.value("document.getElementById('pause').click()")
        await tab.value("new Promise((done) => setTimeout(done, EVERY / 2))")
        assert len(tab.requests) == asked + 1

    look(browser, Scene(), seen)


@asynccontextmanager
async def prefixed(port: int) -> AsyncIterator[str]:
    """Serve the worker below a path, as an ingress or `kubectl proxy` does."""

    async def passed(request: web.Request) -> web.Response:
        url = f"http://127.0.0.1:{port}/{request.match_info['rest']}?{request.query_string}"
        async with ClientSession() as session, session.get(url) as answer:
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                headers={
                    "Content-Type": answer.headers["Content-Type"],
                    "Content-Security-Policy": answer.headers.get("Content-Security-Policy", ""),
                },
            )

    app = web.Application()
    app.router.add_get("/pods/worker-0{slash:/?}{rest:.*}", passed)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/pods/worker-0"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("slash", ["", "/"], ids=["without a slash", "with a slash"])
def test_it_works_below_a_path_of_a_proxy(browser: Path, slash: str) -> None:
    async def looked() -> None:
        scene = Scene()
        scene.work(ban("u1"))
        async with served(scene) as port, prefixed(port) as url, opened(browser) as tab:
            await tab.open(url + slash)
            await look_up(tab, "u1")
            assert await tab.value("document.getElementById('look-list').children.length") == 1
            assert tab.faults == []

    asyncio.run(looked())
