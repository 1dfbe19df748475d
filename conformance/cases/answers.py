"""What HTTP responses have to be: credentials in their place, refusals without details."""

from __future__ import annotations

from urllib.parse import unquote

import jwt

from conformance.http import Json, is_problem, json_of
from conformance.trial import Trial
from conformance.verdict import expect, same

SECRETS = frozenset({"access_token", "refresh_token", "token_type"})


async def native_sign_in(trial: Trial) -> None:
    signed_up = await trial.newcomer()
    for found in (signed_up.signed_in, (await trial.again(signed_up)).signed_in):
        same(found.get("token_type"), "Bearer", "token_type")
        for name in ("access_token", "refresh_token"):
            expect(isinstance(found.get(name), str), f"the response to a native client: no {name}")
        expires_in = found.get("expires_in")
        expect(
            isinstance(expires_in, int | float), "the response to a native client: no expires_in"
        )


async def token_claims(trial: Trial) -> None:
    ada = await trial.ada()
    header = jwt.get_unverified_header(ada.token)
    same((header.get("alg"), header.get("typ")), ("HS256", "at+jwt"), "alg and typ")
    expect(isinstance(header.get("kid"), str), "the header has no kid")
    claims: Json = jwt.decode(ada.token, options={"verify_signature": False})
    wanted = {"iss", "aud", "sub", "sid", "jti", "iat", "exp", "role", "auth_time", "acr"}
    same(wanted - set(claims), set(), "claims that are missing")
    same(claims["sub"], ada.id, "sub")


async def browser_sign_in(trial: Trial) -> None:
    ada = await trial.browser()
    same(SECRETS & set(ada.signed_in), set(), "tokens in the JSON of a browser")
    secure = trial.target.origin.startswith("https:")
    found = {cookie.name: cookie for cookie in ada.http.client.cookies.jar}
    for name, same_site in (("access_token", "lax"), ("refresh_token", "strict")):
        cookie = next((one for at, one in found.items() if at.endswith(name)), None)
        if cookie is None:
            expect(False, f"the sign-in of a browser set no cookie {name}")
            return
        expect(cookie.has_nonstandard_attr("HttpOnly"), f"the cookie {name} is not HttpOnly")
        got = cookie.get_nonstandard_attr("SameSite") or ""
        same(got.lower(), same_site, f"SameSite of the cookie {name}")
        same(cookie.secure, secure, f"Secure of the cookie {name}")
        if secure:
            expect(cookie.name.startswith(("__Host-", "__Secure-")), f"no prefix: {cookie.name}")


async def no_store(trial: Trial) -> None:
    ada = await trial.ada()
    body = {"email": ada.account.email, "password": ada.account.password, "client": "native"}
    ada.account.sign_ins += 1
    for path, given in (("/api/auth/login", body), ("/api/ws/ticket", None)):
        answer = await ada.http.call("POST", path, given)
        control = answer.headers.get("Cache-Control", "")
        expect("no-store" in control, f"Cache-Control of {path}: {control!r}")


async def cross_site(trial: Trial) -> None:
    ada = await trial.browser()
    ada.http.origin = None
    is_problem(await ada.http.call("POST", "/api/ws/ticket"), 403)
    foreign = {"Origin": "https://foreign.invalid"}
    is_problem(await ada.http.call("POST", "/api/ws/ticket", headers=foreign), 403)
    own = {"Sec-Fetch-Site": "same-origin"}
    answer = await ada.http.call("POST", "/api/ws/ticket", headers=own)
    same(answer.status_code, 201, "status with Sec-Fetch-Site: same-origin")


async def wrong_sign_in(trial: Trial) -> None:
    ada, http = await trial.ada(), await trial.nobody()
    bodies = []
    for email in (ada.account.email, f"nobody-{ada.account.email}"):
        body = {"email": email, "password": "not the password", "client": "native"}
        answer = await http.call("POST", "/api/auth/login", body)
        is_problem(answer, 401)
        bodies.append(json_of(answer))
    same(bodies[0], bodies[1], "refusals with a known and an unknown address")


async def users_only(trial: Trial) -> None:
    ada, nobody = await trial.ada(), await trial.nobody()
    for method, path in (("GET", "/api/admin/users"), ("GET", "/api/admin/api-keys")):
        await ada.http.refused(method, path, 403)
        await nobody.refused(method, path, 401)


async def verify(trial: Trial) -> None:
    ada, nobody = await trial.ada(), await trial.nobody()
    answer = await ada.http.call("GET", "/api/auth/verify")
    same(answer.status_code, 200, "status of /api/auth/verify")
    same(answer.headers.get("X-Usher-User-Id"), ada.id, "X-Usher-User-Id")
    same((await nobody.call("GET", "/api/auth/verify")).status_code, 401, "without a credential")


async def verify_by_cookie(trial: Trial) -> None:
    browser = await trial.browser()
    answer = await browser.http.call("GET", "/api/auth/verify")
    same(answer.status_code, 200, "status of /api/auth/verify with a cookie")
    ended = await trial.session()
    await ended.http.do("POST", "/api/auth/logout", status=204)
    same((await ended.http.call("GET", "/api/auth/verify")).status_code, 401, "after the logout")


async def me(trial: Trial) -> None:
    ada = await trial.newcomer()
    found = await ada.http.do("GET", "/api/auth/me")
    same({"id", "email", "name", "role"} - set(found), set(), "members that are missing")
    same((found["id"], found["role"]), (ada.id, "user"), "id and role")
    same(str(found["email"]).lower(), ada.account.email.lower(), "email")
    answer = await ada.http.call("PATCH", "/api/auth/me", {"name": "Gräfin 伯"})
    expect(answer.status_code in {200, 204}, f"PATCH /api/auth/me: status {answer.status_code}")
    verified = await ada.http.call("GET", "/api/auth/verify")
    name = unquote(verified.headers.get("X-Usher-User-Name", ""))
    same(name, "Gräfin 伯", "X-Usher-User-Name, decoded")
    found = await ada.http.do("GET", "/api/auth/me")
    same(found.get("name"), "Gräfin 伯", "name after the change")


async def sessions(trial: Trial) -> None:
    ada = await trial.newcomer()
    other = await trial.again(ada)
    lists = []
    for person in (ada, other):
        items = (await person.http.do("GET", "/api/sessions")).get("items") or []
        current = [one["id"] for one in items if one.get("current")]
        same((len(items), len(current)), (2, 1), "login sessions, and those that are current")
        lists.append((sorted(one["id"] for one in items), current))
    same(lists[0][0], lists[1][0], "ids in both lists")
    expect(lists[0][1] != lists[1][1], "two login sessions have the same id")
    ben = await trial.ben()
    answer = await ben.http.call("DELETE", f"/api/sessions/{lists[1][1][0]}")
    expect(answer.status_code in {403, 404}, f"ending another's session: {answer.status_code}")
    await other.http.do("GET", "/api/auth/me")


async def documents(trial: Trial) -> None:
    nobody = await trial.nobody()
    for path in ("/healthz", "/readyz"):
        same((await nobody.call("GET", path)).status_code, 200, f"status of {path}")
    for path, member in (("/openapi.json", "openapi"), ("/asyncapi.json", "asyncapi")):
        expect(member in await nobody.do("GET", path), f"{path} has no member {member}")
