# A headless Chromium that tests look at the page with, spoken to through its debugging protocol.
#
# Only what the tests need of it: open, evaluate, press keys, take pictures. No test is here.

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientSession, WSMsgType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import ClientWebSocketResponse

DEADLINE: Final = 20.0
"""Seconds for anything that the browser is asked to do, on a busy machine."""
_MARK: Final = b"DevTools listening on "
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # the tests run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


@dataclass(eq=False)
class Tab:
    """
    One tab.

    Attributes:
        faults: What the browser complains of: uncaught errors, what the policy blocked, what could not be loaded.
        requests: The addresses of all that was asked for.

    """

    socket: ClientWebSocketResponse
    session: str = ""
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _number: int = 0
    _answers: dict[int, asyncio.Future[Any]] = field(default_factory=dict)

    async def read(self) -> None:
        """Take what the browser says, until it ends."""
        async for message in self.socket:
            if message.type is not WSMsgType.TEXT:
                continue
            heard = json.loads(message.data)
            if "id" in heard:
                answer = self._answers.pop(heard["id"])
                if "error" in heard:
                    answer.set_exception(RuntimeError(str(heard["error"])))
                else:
                    answer.set_result(heard["result"])
                continue
            what = heard["params"]
            match heard["method"]:
                case "Runtime.exceptionThrown":
                    self.faults.append(json.dumps(what["exceptionDetails"])[:1000])
                case "Log.entryAdded" if what["entry"]["level"] in {"error", "warning"}:
                    self.faults.append(what["entry"]["text"])
                case "Network.requestWillBeSent":
                    self.requests.append(what["request"]["url"])

    async def do(self, method: str, **params: Any) -> Any:
        """Have a method of the protocol carried out."""
        self._number += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[self._number] = answer
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        await self.socket.send_str(json.dumps(message))
        return await asyncio.wait_for(answer, DEADLINE)

    async def open(self, url: str) -> None:
        """Open the page, and wait until it has shown its first answer."""
        await self.do("Page.navigate", url=url)
        await self.until("document.getElementById('updated')?.textContent.includes(':')")

    async def value(self, expression: str) -> Any:
        """Return the value of an expression, awaited."""
        reply = await self.do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true: it is asked after each frame."""
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while not await self.value(expression):
            assert asyncio.get_running_loop().time() < deadline, f"never true: {expression}"
            await asyncio.sleep(0.02)

    async def look_as(self, scheme: str, width: int, height: int = 900) -> None:
        """Look with this colour scheme at this width."""
        await self.do(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def press(self, key: str) -> None:
        """Press a key."""
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Tab": 9, " ": 32}.get(key, ord(key[0].upper()))
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            await self.do("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    async def focused(self) -> str:
        """Return what has the focus: its id, or its text."""
        return str(await self.value("document.activeElement.id || document.activeElement.textContent.trim()"))

    async def picture(self) -> bytes:
        """Take a picture of the whole page, as PNG."""
        reply = await self.do("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(reply["data"])


@asynccontextmanager
async def opened(program: Path) -> AsyncIterator[Tab]:
    """Start a browser with one tab; end it, and all that it wrote."""
    with tempfile.TemporaryDirectory() as home:
        process = await asyncio.create_subprocess_exec(
            program,
            *_FLAGS,
            f"--user-data-dir={home}",
            "about:blank",
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "HOME": home},
        )
        try:
            address = await asyncio.wait_for(_address(process), DEADLINE)
            async with ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket)
                reading = asyncio.create_task(tab.read())
                target = (await tab.do("Target.createTarget", url="about:blank"))["targetId"]
                attached = await tab.do("Target.attachToTarget", targetId=target, flatten=True)
                tab.session = attached["sessionId"]
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await tab.do(f"{domain}.enable")
                yield tab
                reading.cancel()
        finally:
            # With its helpers, which would keep the pipe open.
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = b""
    async for line in process.stderr:
        if line.startswith(_MARK):
            return line.removeprefix(_MARK).decode().strip()
        said += line
    raise AssertionError(f"the browser ended: {said[-1000:].decode(errors='replace')}")
