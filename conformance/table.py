"""The table of cases: every promise that the kit checks, with its place in the contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from conformance.cases import (
    answers,
    backends,
    cuts,
    factors,
    frames,
    limits,
    native,
    opening,
    providers,
    refusals,
    replay,
    rooms,
)
from conformance.trial import Trial


@dataclass(frozen=True)
class Case:
    """One promise.

    Attributes:
        id: unique, in kebab case.
        promise: what the server has to do, as a sentence.
        section: where the contract says it.
        check: raises Broken or NotRun.
        seconds: that the check waits on purpose, beside what it is bounded by anyway.
        alone: it uses up what belongs to the address, so no other may run beside it.
    """

    id: str
    promise: str
    section: str
    check: Callable[[Trial], Awaitable[None]]
    seconds: float = 0.0
    alone: bool = False


_WAYS, _CLOSES, _REPLAY = "The socket: credentials", "The socket: close codes", "The socket: replay"
_FRAMES, _ROOMS, _PROMISES = "The socket: frames", "The socket: rooms", "What it promises"
_HTTP, _LIMITS, _PUBLISH = "HTTP", "Limits", "HTTP: POST /api/publish"
_INTROSPECT, _APP_TOKEN = "1.1: POST /api/introspect", "1.1: POST /api/auth/app-token"
_EXCHANGE, _SECOND = "1.1: POST /api/auth/exchange", "1.1: POST /api/auth/login"
_STEP_UP = "1.1: HTTP: step-up"

# fmt: off
CASES: tuple[Case, ...] = (
    # ---- five ways in
    Case("way-header", "An access token in the Authorization header opens a socket.", _WAYS, opening.header),
    Case("way-subprotocol", "An access token in a subprotocol opens a socket, and only usher.v1 is echoed.", _WAYS, opening.subprotocol),
    Case("way-ticket", "A ticket opens a socket.", _WAYS, opening.ticket),
    Case("way-cookie", "The cookie with the server's own Origin opens a socket.", _WAYS, opening.cookie),
    Case("way-user-join", "A user-join with an id is answered by a reply with the join.", _WAYS, opening.user_join),
    Case("way-user-join-no-id", "A user-join without an id is answered by the event joined.", _WAYS, opening.user_join_without_id),
    Case("cookie-without-origin", "The cookie is not looked at without an Origin.", _WAYS, opening.cookie_without_origin),
    Case("ticket-beside-cookie", "A ticket of the same login session may come with the cookie.", _WAYS, opening.ticket_beside_cookie),
    Case("header-beside-cookie", "A token of the same login session in the header may come with the cookie.", _WAYS, opening.header_beside_cookie),
    # ---- refusals
    Case("foreign-origin", "A foreign Origin is refused with 403 before a ticket is used up.", _WAYS, opening.foreign_origin),
    Case("refused-header", "A wrong token in the header is refused with 401 and no details.", _WAYS, refusals.header),
    Case("refused-subprotocol", "A wrong token in a subprotocol is an accepted socket, closed with 4401.", _CLOSES, refusals.subprotocol),
    Case("refused-ticket", "A wrong ticket is an accepted socket, closed with 4401.", _CLOSES, refusals.ticket),
    Case("refused-cookie", "A wrong cookie is an accepted socket, closed with 4401.", _CLOSES, refusals.cookie),
    Case("refused-user-join", "A user-join with a wrong token ends the socket with 4401.", _CLOSES, refusals.user_join),
    Case("refused-no-credential", "A user-join without a credential ends the socket with 4401 at once.", "1.1: Socket", refusals.user_join_without_credential),
    Case("refused-event-before-join", "Another event before the join ends the socket with 4401.", _WAYS, refusals.event_before_join),
    Case("refused-big-before-join", "A frame over 8 KiB before the join ends the socket with 1009.", _WAYS, refusals.big_before_join),
    Case("refused-two-credentials", "Two explicit credentials are refused with 4400.", _WAYS, refusals.two_explicit),
    Case("refused-two-sessions", "Credentials of two login sessions are refused with 4400.", _WAYS, refusals.two_sessions),
    Case("refused-forged", "A token that the server did not sign is refused, whatever it says.", _WAYS, refusals.forged),
    Case("refused-alike", "A malformed, a forged and a revoked token get the same refusal.", _HTTP, refusals.alike),
    Case("join-timeout", "A socket that does not join is closed with 4408 after the time-out.", _CLOSES, refusals.join_timeout, 10),
    Case("expired", "A socket is warned before its token expires and closed with 4419, and the token is refused with 4419.", _CLOSES, refusals.expired, 90),
    # ---- replay
    Case("ticket-once", "A ticket opens one socket; a second use gets 4401 and leaves the first open.", _REPLAY, replay.ticket_once),
    Case("ticket-race", "Of many uses of a ticket at the same time, one opens a socket.", _REPLAY, replay.ticket_race),
    Case("ticket-ended-session", "A ticket is worthless after the logout of its login session.", "HTTP: POST /api/ws/ticket", replay.ticket_of_ended_session),
    Case("ticket-expires", "A ticket is worthless after expires_in seconds.", "HTTP: POST /api/ws/ticket", replay.ticket_expires_in, 45),
    Case("replay-token", "The same token on a second socket closes the first with 4409.", _REPLAY, replay.token_header),
    Case("replay-token-other-way", "That holds for a token presented in another way.", _REPLAY, replay.token_other_way),
    Case("replay-token-other-node", "That holds for a socket on another node.", _REPLAY, replay.token_other_node),
    Case("cookie-per-tab", "One cookie may open a socket for each tab.", _REPLAY, replay.cookie_per_tab),
    # ---- frames
    Case("heartbeat", "A heartbeat is answered with the server's time in epoch seconds.", _FRAMES, frames.heartbeat),
    Case("one-reply-each", "A frame with an id gets exactly one reply, a frame without one none.", _FRAMES, frames.one_reply_each),
    Case("unknown-event", "An unknown event gets the error unknown_event, and the socket lives on.", _FRAMES, frames.unknown_event),
    Case("wrong-data", "Wrong data gets bad_request, which names the member, and the socket lives on.", "1.1: Socket", frames.wrong_data),
    Case("no-frame", "A message that is no frame closes the socket with 4400.", _FRAMES, frames.no_frame),
    Case("binary", "A binary message closes the socket with 4400.", _FRAMES, frames.binary),
    Case("join-of-another", "A user-join of another user gets identity_mismatch.", _FRAMES, frames.join_of_another),
    # ---- live refresh
    Case("refresh", "A new token of the same login session refreshes the open socket.", _FRAMES, frames.refresh),
    Case("refresh-other-user", "A token of another user gets identity_mismatch, and the socket lives on.", _FRAMES, frames.refresh_of_another),
    Case("refresh-other-session", "A token of another login session gets identity_mismatch and changes nothing.", _FRAMES, frames.refresh_of_another_session),
    Case("refresh-wrong-token", "A wrong token is refused, and the old one goes on.", _FRAMES, frames.refresh_with_nothing),
    Case("refresh-outlives", "A refreshed socket outlives its first token.", _FRAMES, refusals.outlived, 70),
    # ---- cuts
    Case("cut-logout", "A logout closes the session's sockets with 4410 on every node within 1 s, and ends its tokens.", _PROMISES, cuts.logout),
    Case("cut-others-live", "A logout closes no socket of another login session.", _PROMISES, cuts.others_live),
    Case("cut-nothing-after", "After the response to a logout no frame goes in or out on that node.", _PROMISES, cuts.nothing_after),
    Case("cut-password", "A new password closes the sockets of every other login session with 4410.", _PROMISES, cuts.password),
    Case("cut-session-ended", "Ending a login session in the list closes its sockets with 4410.", _PROMISES, cuts.session_ended),
    Case("cut-others-ended", "Ending all other login sessions closes their sockets with 4410.", _PROMISES, cuts.other_sessions_ended),
    Case("cut-disabled", "Disabling an account closes its sockets with 4410; enabling it brings no token back.", _PROMISES, cuts.disabled),
    Case("cut-deleted", "Deleting an account closes its sockets with 4410.", _PROMISES, cuts.deleted),
    Case("cut-deleted-by-admin", "An account that an administrator deletes loses its sockets with 4410.", _PROMISES, cuts.deleted_by_admin),
    Case("cut-disconnected", "An administrator's disconnect closes the user's sockets with 4410.", _PROMISES, cuts.disconnected),
    Case("cut-role", "A changed role closes the user's sockets with 4419; a refresh brings the new role.", _PROMISES, cuts.role_removed),
    Case("cut-refresh-replayed", "A replayed refresh token ends its login session, with its sockets.", "HTTP: POST /api/auth/refresh", cuts.refresh_replayed, 15),
    Case("refresh-in-grace", "Parallel tabs may use the same refresh token.", "HTTP: POST /api/auth/refresh", cuts.refresh_in_grace),
    Case("cut-longest-unused", "One login session above MAX_SESSIONS_PER_USER ends the one longest unused, with its sockets.", _LIMITS, cuts.longest_unused, 120),
    # ---- providers
    Case("provider-sign-in", "A sign-in with an OpenID provider ends signed in, and its cookie opens a socket.", "HTTP: /oauth/{provider}/login", providers.sign_in),
    Case("provider-state", "A flow ends in the browser that began it, and with its own state only.", "HTTP: /oauth/{provider}/login", providers.foreign_state),
    Case("cut-back-channel", "A back-channel logout closes the session's sockets with 4410.", "HTTP: backchannel-logout", providers.log_out),
    Case("cut-back-channel-all", "A back-channel logout without sid closes the sockets of all the user's sessions of that provider.", "HTTP: backchannel-logout", providers.log_out_everywhere),
    Case("back-channel-others-live", "A back-channel logout of one session leaves another one alone.", "HTTP: backchannel-logout", providers.other_session_lives),
    Case("back-channel-forged", "A logout token that is forged, expired, of another issuer or of another kind is refused with 400 and closes nothing.", "HTTP: backchannel-logout", providers.forged_log_out),
    # ---- rooms
    Case("own-room", "A user's own room is closed to other users.", _ROOMS, rooms.own_room),
    Case("private-channel", "A private channel is forbidden without a right, as if it did not exist.", _ROOMS, rooms.private_channel),
    Case("message", "A message reaches every member, the sender too, with its id, sender and time.", _FRAMES, rooms.message),
    Case("order", "The messages of a sender arrive in order.", _FRAMES, rooms.order),
    Case("read-only", "The right read lets in, and forbids to write.", _ROOMS, rooms.read_only),
    Case("typing", "typing reaches the other members.", _FRAMES, rooms.typing),
    Case("presence", "presence has the users of all nodes, and members are told who comes and goes.", _FRAMES, rooms.presence),
    Case("leave", "A socket that has left a room is not sent its messages until it joins again.", _FRAMES, rooms.leave),
    Case("usage", "usage is answered with the models in use.", _FRAMES, rooms.usage),
    Case("right-given", "A right that is given opens the room on the open socket.", _ROOMS, rooms.right_given),
    Case("cut-right-removed", "A right that is removed ends delivery at once on that node, and writing on every node.", _PROMISES, rooms.right_removed),
    Case("cut-right-lowered", "A right that is lowered to read forbids to write on the open socket.", _PROMISES, rooms.right_lowered),
    Case("cut-channel-deleted", "A deleted channel is taken from the open socket.", _PROMISES, rooms.channel_deleted),
    Case("join-channels", "join-channels looks rights up anew.", _FRAMES, rooms.join_channels),
    Case("history", "history has what was said after an id, and says that it is complete.", _FRAMES, rooms.history),
    Case("history-re-authorised", "history is only of rooms that may be read now.", _FRAMES, rooms.history_re_authorised),
    Case("history-unknown-after", "history after an unknown id is not complete.", _FRAMES, rooms.history_unknown_after),
    # ---- backends
    Case("publish", "What a backend publishes reaches the members as given.", _PUBLISH, backends.publish),
    Case("publish-kept", "What is published with keep is in history, beside messages and in one order.", _PUBLISH, backends.publish_kept),
    Case("publish-once", "With one Idempotency-Key it is sent once.", _PUBLISH, backends.publish_once),
    Case("publish-all-or-none", "If one of the rooms does not exist, nothing is sent.", _PUBLISH, backends.publish_to_all_or_none),
    Case("publish-refused", "The server's own event names, unknown rooms and users are refused.", _PUBLISH, backends.publish_refused),
    Case("cut-introspection", "Introspection says active:false at once after a logout, on every node.", _INTROSPECT, backends.introspection),
    Case("introspect-ticket", "A ticket is active:false, and is not used up by that.", _INTROSPECT, backends.introspected_ticket),
    Case("introspect-closed", "Introspection needs an API key.", _INTROSPECT, backends.introspection_is_closed),
    Case("app-token", "An app token can be verified offline, and has the claims of the contract.", _APP_TOKEN, backends.app_token),
    Case("app-token-audience", "There are app tokens for the installation's audiences only.", _APP_TOKEN, backends.app_token_audience),
    Case("app-token-opens-nothing", "An app token opens no socket and nothing of the server's own.", _APP_TOKEN, backends.app_token_opens_nothing),
    Case("app-token-after-logout", "None is issued after a logout, and introspection says active:false.", _APP_TOKEN, backends.app_token_after_logout),
    Case("key-scopes", "An API key may do what its scopes say, and nothing else.", "1.1: HTTP: API keys", backends.key_scopes),
    Case("key-revoked", "A revoked API key is refused at once, and no key is shown again.", "1.1: HTTP: API keys", backends.key_revoked),
    # ---- native apps
    Case("native-code", "The code of a native sign-in is exchanged for tokens.", _EXCHANGE, native.code),
    Case("native-code-provider", "A native sign-in with a provider ends at the app's redirect URI, with a code.", "1.1: GET /oauth/{provider}/login", native.code_with_provider),
    Case("native-verifier", "A code works with its verifier only, and a wrong one ends it.", _EXCHANGE, native.verifier),
    Case("cut-code-replayed", "A code that is used twice ends the session that came of it, with its sockets.", _EXCHANGE, native.code_twice),
    Case("native-redirect", "Codes go to loopback addresses or listed URIs only, and with S256 only.", "1.1: GET /oauth/{provider}/login", native.foreign_redirect),
    Case("native-code-browser", "A program with a bearer token gets no code.", "1.1: Native sign-in by password", native.by_program),
    # ---- second factors and step-up
    Case("second-factor", "With a second factor a password alone gets a challenge, and no token.", _SECOND, factors.second_factor),
    Case("second-factor-once", "Codes of the app and recovery codes work once.", _SECOND, factors.codes_once),
    Case("second-factor-tries", "A challenge dies after five wrong answers.", _SECOND, factors.wrong_answers),
    Case("step-up", "What needs a step-up is refused as RFC 9470 says, until the session is proven anew.", _STEP_UP, factors.step_up_needed),
    Case("step-up-room", "A room that needs a step-up opens on the open socket with a token of the proof, and closes when that ends.", "1.1: Socket", factors.step_up_room, 150),
    # ---- HTTP
    Case("native-sign-in", "A native client gets tokens.", _HTTP, answers.native_sign_in),
    Case("token-claims", "Access tokens have the header and the claims of the contract.", _HTTP, answers.token_claims),
    Case("browser-sign-in", "A browser gets its tokens only as cookies, with their attributes.", _HTTP, answers.browser_sign_in),
    Case("no-store", "Responses with credentials are not stored.", _HTTP, answers.no_store),
    Case("cross-site", "Unsafe requests with a cookie need an own Origin or Sec-Fetch-Site: same-origin.", _HTTP, answers.cross_site),
    Case("wrong-sign-in", "A wrong password and an unknown address get the same refusal.", _HTTP, answers.wrong_sign_in),
    Case("admin-only", "Administration is refused to users (403) and strangers (401).", _HTTP, answers.users_only),
    Case("verify", "GET /api/auth/verify names the user, or answers 401.", "1.1: GET /api/auth/verify", answers.verify),
    Case("verify-cookie", "It takes the cookie, and no token after a logout.", "1.1: GET /api/auth/verify", answers.verify_by_cookie),
    Case("me", "A user is told who they are, and may change their name.", "1.1: PATCH /api/auth/me", answers.me),
    Case("sessions", "A user sees their login sessions, one of them current, and ends no other user's.", "HTTP: GET /api/sessions", answers.sessions),
    Case("documents", "Health and both API descriptions are there for everybody.", _HTTP, answers.documents),
    # ---- limits
    Case("limit-frame", "A message over 64 KiB closes the socket with 1009.", _CLOSES, limits.big_frame),
    Case("limit-rate", "A burst is accepted; frames above it get rate_limited with retry_after.", "1.1: Socket", limits.rate, 30, alone=True),
    Case("limit-rate-for-long", "Who goes on above the rate is closed with 4429.", "1.1: Socket", limits.rate_for_long, 20, alone=True),
    Case("limit-sockets", "More sockets of a user than MAX_SOCKETS_PER_USER get 4429, in the header HTTP 429.", _LIMITS, limits.sockets_of_user, 60, alone=True),
    Case("limit-unjoined", "More connections of an address than MAX_UNJOINED_PER_ADDRESS are refused.", _LIMITS, limits.unjoined, 60, alone=True),
    Case("limit-slow-consumer", "Who does not read is closed with 4413, and the others are not held up.", _CLOSES, limits.slow_consumer, 10, alone=True),
    Case("limit-signins", "Sign-ins of a user have a limit, exact under parallel requests, with Retry-After.", _LIMITS, limits.signins_of_user, 60, alone=True),
    Case("limit-refreshes", "Refreshes of a user have a limit; the session lives on.", _LIMITS, limits.refreshes_of_user, 60),
    Case("limit-tickets", "Tickets of a user have a limit, exact under parallel requests; others get theirs.", _LIMITS, limits.tickets_of_user, 60),
    Case("limit-wrong-signins", "Wrong sign-ins of an address have a limit, and the owner gets in from a known device.", _LIMITS, limits.wrong_signins, 120, alone=True),
)
# fmt: on
