"""static/usher-app.js in Node: where its credential is sent, and what clients/contract does not
cover."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.authenticator import set_up
from tests.support.node import run_script
from tests.support.scripted import ScriptedUsher, message, scripted_usher
from tests.support.server import PASSWORD, sign_up, usher

PRELUDE = """
const { createUsher, UsherError } = await import(`${process.env.USHER_JS}/usher-index.js`);
const show = (value) => console.log(JSON.stringify(value ?? null));
const code = ({ code, status, retryAfter }) => ({ code, status, retryAfter });
const url = process.env.URL;
const ada = { email: 'ada@example.org', password: 'a quiet heron at dusk' };
"""


@pytest.fixture
def scripted() -> Iterator[ScriptedUsher]:
    with scripted_usher() as running:
        yield running


def shown(script: str, url: str) -> list[Any]:
    """What a script showed, line by line."""
    status, out, err = run_script(PRELUDE + script, URL=url)
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


# ---- where the credential goes ---------------------------------------------------------------

SEND = """
const sent = [];
const fetch = async (input, init) => {
  const headers = new Headers(init?.headers ?? input.headers);
  sent.push([input.url ?? input, headers.get('Authorization'), init?.redirect ?? null]);
  return Response.json({ ok: true });
};
const usher = createUsher({ url, fetch, getToken: async () => 'secret' });
for (const input of INPUTS) await usher.fetch(input);
await usher.fetch(new Request(`${url}/as-request`, { method: 'POST', body: 'x' }));
await usher.fetch(new Request('http://evil.example/as-request'));
await usher.fetch(new URL('http://evil.example/as-url'));
await usher.fetch('/own', { headers: { Authorization: 'Bearer of-the-app' } });
show(sent);
"""
OWN = ["/api/x", "api/x", "./api/x", "/a:b?c=d", "http://usher.example/deep/api/x"]
FOREIGN = [
    "//evil.example/x", "/\\\\evil.example/x", "\\\\\\\\evil.example/x", "http://evil.example/deep/x",
    "http://usher.example.evil.example/deep/x", "http://usher.example@evil.example/deep/x",
    "https://usher.example/deep/x", "http://usher.example:81/deep/x", "/../other-app/x",
    "http://usher.example/other-app/x", "http://usher.example/deeper/x", "/%2e%2e/other-app/x",
]  # fmt: skip


def test_a_credential_is_sent_below_the_servers_url_only() -> None:
    inputs = json.dumps([*OWN, *FOREIGN]).replace("\\\\\\\\", "\\\\")
    [sent] = shown(SEND.replace("INPUTS", inputs), "http://usher.example/deep")
    own, foreign = sent[: len(OWN)], sent[len(OWN) : len(OWN) + len(FOREIGN)]
    for address, authorization, redirect in own:
        assert address.startswith("http://usher.example/deep/")
        assert (authorization, redirect) == ("Bearer secret", "error")
    for address, authorization, _ in foreign:
        assert not address.startswith("http://usher.example/deep/")
        assert authorization is None
    assert [part[1] for part in sent[-4:]] == [
        "Bearer secret", None, None, "Bearer of-the-app",
    ]  # fmt: skip


def test_what_can_be_read_once_is_sent_again_whole(scripted: ScriptedUsher) -> None:
    script = """
    const usher = createUsher({ url });
    await usher.signIn(ada);
    for (const given of [[`${url}/api/channels`], ['/api/channels']]) {
      await fetch(`${url}/expire`);
      const how = { method: 'POST', headers: { 'Content-Type': 'application/json' },
        body: new Blob([JSON.stringify({ name: 'tea' })]).stream(), duplex: 'half' };
      const input = given[0].startsWith('/') ? [given[0], how] : [new Request(given[0], how)];
      show((await usher.fetch(...input)).status);
    }
    """
    assert shown(script, scripted.url) == [201, 201]
    bodies = [(asked.token, asked.body) for asked in scripted.of_path("/api/channels")]
    tea = {"name": "tea"}
    assert bodies == [
        ("access-1", tea),
        ("access-2", tea),
        ("access-2", tea),
        ("access-3", tea),
    ]


# ---- signing in and out ----------------------------------------------------------------------


def test_clients_that_share_their_tokens_share_a_renewal(scripted: ScriptedUsher) -> None:
    script = """
    const kept = new Map();
    const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => {
      kept.set(key, value); }, removeItem: (key) => { kept.delete(key); } };
    const [first, second] = [createUsher({ url, storage }), createUsher({ url, storage })];
    await first.signIn(ada);
    await fetch(`${url}/expire`);
    const calls = [first, second, first, second].map((usher) => usher.fetch('/api/auth/me'));
    show((await Promise.all(calls)).map(({ status }) => status));
    show((await createUsher({ url, storage }).me()).id);
    await second.signOut();
    show(await first.me());
    """
    assert shown(script, scripted.url) == [[200] * 4, "u1", None]
    assert len(scripted.of_path("/api/auth/refresh")) == 1


def test_a_sign_out_that_does_not_reach_the_server_changes_nothing(
    scripted: ScriptedUsher,
) -> None:
    script = """
    const usher = createUsher({ url });
    await usher.signIn(ada);
    show(await usher.signOut().catch(code));
    show(usher.user.id);
    await usher.signOut();
    show(usher.user);
    show((await usher.fetch('/api/auth/me')).status);
    """
    scripted.answers["/api/auth/logout"].append({"lose": True})
    assert shown(script, scripted.url) == [{"code": "unreachable"}, "u1", None, 401]


def test_an_account_that_has_to_be_confirmed_cannot_sign_in(scripted: ScriptedUsher) -> None:
    script = """
    const usher = createUsher({ url });
    show(await usher.signUp({ ...ada, name: 'Ada' }));
    show(usher.user);
    """
    scripted.answers["/api/auth/signup"].append({"status": 202, "body": {}})
    assert shown(script, scripted.url) == [None, None]


def test_the_device_of_a_sign_in_is_shown_at_the_next(scripted: ScriptedUsher) -> None:
    script = """
    const usher = createUsher({ url });
    await usher.signIn(ada);
    await usher.signOut();
    await usher.signIn(ada);
    """
    scripted.tokens.device = "device-1"
    shown(script, scripted.url)
    devices = [asked.body["device"] for asked in scripted.of_path("/api/auth/login")]
    assert devices == ["", "device-1"]


def test_a_users_change_is_reported_once(scripted: ScriptedUsher) -> None:
    script = """
    const usher = createUsher({ url });
    const off = usher.on('user', (user) => show(user?.id));
    await usher.signIn(ada);
    await usher.me();
    await usher.signOut();
    off();
    await usher.signIn(ada);
    """
    assert shown(script, scripted.url) == ["u1", None]


# ---- misuse ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("createUsher()", "give url"),
        ("createUsher({ url: 'ftp://x' })", "url is http or https"),
        ("createUsher({ url: 'no address' })", "url is no address"),
        ("createUsher({ url, credentials: 'magic' })", "cookies nor tokens"),
        ("createUsher({ url, urk: 1 })", "no option urk"),
        ("createUsher({ url, fetch: 1 })", "fetch is no function"),
        ("createUsher({ url }).room('tea')", "Rooms are channel:ID"),
        ("createUsher({ url }).room()", "Rooms are channel:ID"),
        ("await createUsher({ url }).signInWith('google')", "needs a page"),
        ("await createUsher({ url }).signInWith('google')", "see docs/native.md"),
        ("await createUsher({ url, getToken: async () => 't' }).signIn(ada)", "With getToken"),
        ("await createUsher({ url, getToken: async () => 't' }).signOut()", "With getToken"),
    ],
)
def test_what_can_never_work_is_said_at_once(call: str, said: str) -> None:
    script = f"""
    try {{ {call}; show('done'); }} catch (error) {{
      show([error instanceof UsherError, error.code, error.message]);
    }}"""
    [[typed, code, text]] = shown(script, "http://127.0.0.1:9")
    assert (typed, code) == (True, "misuse")
    assert said in text


# ---- rooms -----------------------------------------------------------------------------------


def test_an_error_in_one_listener_keeps_nothing_from_the_others() -> None:
    script = """
    const { Listeners } = await import(`${process.env.USHER_JS}/usher-room.js`);
    const listeners = new Listeners();
    process.on('uncaughtException', ({ message }) => show(message));
    listeners.on('message', () => { throw new Error('mine'); });
    const off = listeners.on('message', (detail) => { off(); show(detail); });
    listeners.tell('message', 1);
    listeners.tell('message', 2);
    """
    assert shown(script, "http://127.0.0.1:9") == [1, "mine", "mine"]


def test_a_name_that_every_object_has_is_a_room_and_an_event_like_others(
    scripted: ScriptedUsher,
) -> None:
    """Backends give events whichever names they like."""
    script = """
    const usher = createUsher({ url });
    await usher.signIn(ada);
    const room = usher.room('channel:__proto__');
    for (const name of ['__proto__', 'constructor', 'event']) {
      room.on(name, ({ event, data }) => show([name, event, data]));
    }
    room.on('message', ({ data }) => show(['message', data]));
    usher.connect();
    await new Promise((resolve) => { room.on('last', resolve); });
    usher.close();
    """
    frames = [
        {"event": name, "room": "channel:__proto__", "data": number}
        for number, name in enumerate(("__proto__", "constructor", "event", "message", "last"))
    ]
    scripted.on_open = [*frames[:-1], frame_of("channel:other"), frames[-1]]
    assert shown(script, scripted.url) == [
        ["event", "__proto__", 0],
        ["__proto__", "__proto__", 0],
        ["event", "constructor", 1],
        ["constructor", "constructor", 1],
        ["event", "event", 2],
        ["event", "message", 3],
        ["message", 3],
        ["event", "last", 4],
    ]


def frame_of(room: str) -> dict[str, Any]:
    return {"event": "message", "data": message(1, room)}


STEP_UP = """
const usher = createUsher({ url });
await usher.signIn({ email: process.env.EMAIL, password: process.env.PASSWORD });
await usher.connect();
const room = usher.room(process.env.ROOM);
const refused = (work) => work.then(() => null, code);
const out = new Promise((resolve) => {
  usher.client.addEventListener('event', ({ detail }) => {
    const { event, data } = detail;
    if (event === 'access-changed' && !data.rooms.includes(process.env.ROOM)) resolve();
  });
});
await out;
show(await refused(room.send('too late')));
const answer = await usher.fetch(`/api/channels/${process.env.ROOM.slice(8)}`, {
  method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: '{"step_up":false}' });
show([answer.status, (await answer.json()).methods]);
show(await refused(usher.stepUp({ password: 'no such heron 9' })));
await usher.stepUp({ password: process.env.PASSWORD });
show(typeof (await room.send('now')).id);
usher.close();
"""


def test_a_step_up_raises_the_open_connection() -> None:
    with usher("sqlite", STEP_UP_SECONDS=4) as server:
        person = sign_up(server)
        made = person.post("/api/channels", {"name": "vault", "step_up": True})
        room = f"channel:{made.body['id']}"
        given = {"URL": server.url, "EMAIL": person.user["email"], "PASSWORD": PASSWORD}
        status, out, err = run_script(PRELUDE + STEP_UP, ROOM=room, **given)
    assert (status, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"code": "step_up_needed"},
        [401, ["password"]],
        {"code": "wrong_password", "status": 403},
        "string",
    ]


@pytest.mark.slow
def test_a_second_factor_completes_a_sign_in() -> None:
    script = """
    const usher = createUsher({ url, credentials: 'tokens' });
    const { EMAIL: email, PASSWORD: password, CODE: right } = process.env;
    const asked = await usher.signIn({ email, password }).catch((error) => error);
    show([asked.code, asked.problem.methods]);
    show((await usher.secondFactor(asked, { code: '000000' }).catch(code)).code);
    show((await usher.secondFactor(asked, { code: right })).email === email);
    show(code(await usher.secondFactor(new Error(), { code: right }).catch((e) => e)).code);
    """
    with usher("sqlite") as server:
        email = "second-factor@example.org"
        recovery = set_up(sign_up(server, email=email)).recovery_code()
        status, out, err = run_script(
            PRELUDE + script, URL=server.url, EMAIL=email, PASSWORD=PASSWORD, CODE=recovery
        )
    assert (status, err) == (0, "")
    said = [json.loads(line) for line in out.splitlines()]
    methods = ["totp", "recovery_code"]
    assert said == [["second_factor_needed", methods], "wrong_code", True, "misuse"]
