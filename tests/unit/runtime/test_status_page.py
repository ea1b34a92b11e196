# What the page is given: now, the past, and a look-up. How a browser shows it is in tests/page.

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from tests.page.served import BAN, HOSTILE, KICK, LONG, NOW, Scene, endpoint
from tests.unit.domain.engine_harness import ban, kick, users
from worker.domain.contract.control_records import Order, OrderState, Scope
from worker.domain.contract.outcomes import Status
from worker.domain.effects import HaltReason
from worker.domain.engine_snapshot import LIMITED_BY, OrderSnapshot
from worker.runtime.status_page import CONTROLS, ENDPOINTS, FOUND, LISTED
from worker.runtime.status_server import ReadinessObstacle


def now(scene: Scene) -> Any:
    scene.pass_time()
    return json.loads(scene.page.status())


def found(scene: Scene, text: str) -> Any:
    return json.loads(scene.page.find(text))


def test_before_the_first_look_there_is_nothing_and_all_of_its_parts() -> None:
    page = now(Scene())

    assert page["endpoints"] == page["partitions"] == page["controls"] == page["failures"] == []
    assert page["worker"] == {"name": "moderation-worker-0", "version": "0.1.0"}
    assert [each["status"] for each in page["outcomes"]] == [status.value for status in Status]


def test_an_endpoint_shows_its_quota_what_limits_it_and_what_waits() -> None:
    scene = Scene()
    scene.observe(
        endpoint(
            permits_used=77,
            permits_lent=5,
            permits_borrowed=6,
            limited_by="quota",
            waiting=500,
            oldest_age=3.25,
            calls=12,
        )
    )

    (shown,) = now(scene)["endpoints"]

    past = shown.pop("past")
    assert past["used"][-1] == 77
    assert past["granted"][-1] == 200
    assert past["limited_by"][-1] == ["quota", 1]
    assert shown == {
        "app": "main",
        "endpoint": BAN,
        "limited_by": "quota",
        "used": 77,
        "granted": 200,
        "owned": 200,
        "lent": 5,
        "borrowed": 6,
        "throttle_factor": 1.0,
        "waiting": 500,
        "oldest_seconds": 3.2,
        "calls": 12,
        "breaker_open": False,
        "breaker_openings": 0,
        "halt": None,
    }


def test_a_halt_of_an_endpoint_is_shown_there_and_one_of_an_app_everywhere() -> None:
    scene = Scene()
    of_one = HaltReason("main", KICK, 10007, "no permission", "make it an administrator", NOW - 60)
    scene.observe(endpoint(), endpoint(endpoint=KICK), halts=(of_one,))
    ban_card, kick_card = now(scene)["endpoints"]
    assert ban_card["halt"] is None
    assert kick_card["halt"] == {
        "reason": "no permission", "remedy": "make it an administrator", "code": 10007, "seconds": 62,
    }  # fmt: skip

    scene.observe(
        endpoint(), endpoint(endpoint=KICK), halts=(HaltReason("main", None, 70009, "key", "fix", NOW),)
    )
    assert [each["halt"]["code"] for each in now(scene)["endpoints"]] == [70009, 70009]


def test_obstacles_are_shown_with_their_remedies() -> None:
    scene = Scene()
    scene.obstacles = [ReadinessObstacle("main is halted", "check the key"), ReadinessObstacle("stopping")]

    page = now(scene)

    assert page["ready"] is False
    assert page["obstacles"] == [
        {"reason": "main is halted", "remedy": "check the key"},
        {"reason": "stopping", "remedy": None},
    ]


def test_what_operators_have_stopped_is_shown_with_who_and_why() -> None:
    order = Order(OrderState.PAUSED, "bans everybody", "anna", "2026-11-21T03:00:00Z")
    pause = OrderSnapshot(Scope(issuer="detector-7"), order, 412)
    scene = Scene()
    scene.observe(orders=(pause,) * (CONTROLS + 1))

    page = now(scene)

    assert page["controls"][0] == {
        "scope": "issuer detector-7",
        "state": "paused",
        "commands": 412,
        "by": "anna",
        "reason": "bans everybody",
        "at": "2026-11-21T03:00:00Z",
        "until": None,
    }
    assert (len(page["controls"]), page["controls_omitted"]) == (CONTROLS, 1)


def test_partitions_have_their_lag_where_it_is_known() -> None:
    scene = Scene()
    scene.observe()

    assert [(each["partition"], each["lag"]) for each in now(scene)["partitions"]] == [
        (0, 0), (1, 15), (2, 123_456), (3, None),
    ]  # fmt: skip


def test_of_many_endpoints_the_busiest_are_shown_and_the_rest_counted() -> None:
    scene = Scene()
    scene.observe(*(endpoint(app=f"app-{n}", permits_used=n) for n in range(ENDPOINTS + 5)))

    page = now(scene)

    assert len(page["endpoints"]) == ENDPOINTS
    assert page["endpoints_omitted"] == 5
    assert "app-0" not in {each["app"] for each in page["endpoints"]}


def test_the_slowest_and_the_most_failing_rooms_come_first() -> None:
    scene = Scene()
    for number in range(LISTED + 5):
        scene.work(ban("u", group=f"group-{number}"), queued_ms=float(number))
    for _ in range(3):
        scene.work(kick("gone", room="sick"), refuse=frozenset({"gone"}))
    scene.work(kick("gone", room="unwell"), refuse=frozenset({"gone"}))

    page = now(scene)

    assert [each["room"] for each in page["slowest"]][:2] == ["group-14", "group-13"]
    assert len(page["slowest"]) == LISTED
    assert [(each["room"], each["undone"]) for each in page["failing"]] == [("sick", 3), ("unwell", 1)]


def test_the_last_failure_comes_first_with_code_sentence_and_request_id() -> None:
    scene = Scene()
    scene.work(ban("u", duration=-1))
    scene.work(kick("gone", room="room-7"), refuse=frozenset({"gone"}))

    last, _ = now(scene)["failures"]

    assert (last["code"], last["request_id"], last["room"]) == ("10019", "Id-bad-1", "room-7")
    assert "the account does not exist" in last["message"]


def test_a_look_up_shows_the_user_that_was_asked_for_among_a_hundred() -> None:
    scene = Scene()
    scene.work(ban(*users(100)))

    reply = found(scene, "u87")

    assert reply["more"] is False
    (outcome,) = reply["found"]
    assert outcome["results"][0]["user"] == "u87"
    assert (len(outcome["results"]), outcome["users"]) == (LISTED, 100)


def test_a_look_up_is_bounded_and_says_so() -> None:
    scene = Scene()
    for _ in range(FOUND + 1):
        scene.work(ban("u"))

    reply = found(scene, "u")

    assert (len(reply["found"]), reply["more"], reply["kept"]) == (FOUND, True, FOUND + 1)
    assert found(scene, "nobody")["found"] == []


def test_texts_of_records_are_short_and_printable() -> None:
    scene = Scene()
    scene.work(ban("u"), command_id=HOSTILE, group_id=LONG, issuer="\ud800\x1b[31m\u2066")
    scene.work(kick("gone"), command_id=HOSTILE, room_id=LONG, refuse=frozenset({"gone"}))

    answers = scene.page.status().decode() + scene.page.find(HOSTILE).decode()

    texts = re.findall(r'"((?:[^"\\]|\\.)*)"', answers)
    assert all(json.loads(f'"{text}"').isprintable() for text in texts)
    assert len(answers) < 20_000


def test_a_raid_at_its_worst_makes_an_answer_of_a_bounded_size() -> None:
    scene = Scene()
    for second in range(300):
        scene.observe(
            *(
                endpoint(
                    app=f"app-{n}",
                    permits_used=200 - second % 2,
                    limited_by=("quota", "throttle")[second % 2],
                )
                for n in range(ENDPOINTS)
            )
        )
    for _ in range(40):
        scene.work(kick("gone", room=LONG), command_id=LONG, refuse=frozenset({"gone"}))

    assert len(scene.page.status()) < 700_000


def test_one_answer_serves_all_who_ask_within_a_second() -> None:
    scene = Scene()
    first = scene.page.status()
    scene.work(ban("u"))

    assert scene.page.status() is first
    scene.pass_time()
    assert scene.page.status() is not first


def test_the_page_is_one_file_of_at_most_100_kb_that_names_no_other() -> None:
    text = resources.files("worker.runtime").joinpath("page.html").read_text(encoding="utf-8")

    assert len(text.encode()) <= 100_000
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,", "#main", "readyz", "metrics"}
    assert set(re.findall(r"https?://[^\"' )]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\son\w+=", text)


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_else() -> None:
    policy = dict(part.strip().split(" ", 1) for part in Scene().page.policy.split(";"))

    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert re.fullmatch(r"'sha256-[^']{44}'", policy["script-src"])
    assert re.fullmatch(r"'sha256-[^']{44}'", policy["style-src"])


def test_the_page_has_a_sentence_for_everything_that_can_limit_an_endpoint() -> None:
    text = resources.files("worker.runtime").joinpath("page.html").read_text(encoding="utf-8")
    sentences = text.partition("const LIMITS = {")[2].partition("};")[0]

    assert [reason for reason in LIMITED_BY if f"{reason}: " not in sentences] == []
