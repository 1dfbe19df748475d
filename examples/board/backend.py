"""The board's backend: it knows who posts because it asks Usher, and tells everybody by Usher."""

from __future__ import annotations

import os
import secrets
from collections import deque
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, Field

from usher_client import UsherError
from usher_client.backend import Backend, Caller, Introspection
from usher_client.backend.asgi import UsherMiddleware, caller_of

USHER, KEY = os.environ["USHER_URL"], os.environ["USHER_API_KEY"]
PAGE, ROOM = os.environ["BOARD_PAGE"], os.environ["BOARD_ROOM"]
POSTS_KEPT = 200

app = FastAPI(title="Board")
usher = Backend(USHER, KEY)
posts: deque[dict[str, Any]] = deque(maxlen=POSTS_KEPT)
"""In memory, as this is about who may post. An app of yours has a database."""

# Who calls: asked of Usher for each token, and remembered for 5 seconds.
app.add_middleware(UsherMiddleware, checks=Introspection(USHER, KEY))
# The page is on another origin: a browser asks first whether it may call. Added last: outermost.
app.add_middleware(
    CORSMiddleware,
    allow_origins=[PAGE],
    allow_methods=["GET", "POST"],
    allow_headers=["Authorization", "Content-Type"],
)


class NewPost(BaseModel):
    """What the page sends."""

    text: Annotated[str, Field(min_length=1, max_length=500)]


def signed_in(request: Request) -> Caller:
    """The caller, who has to be signed in."""
    caller = caller_of(request)
    if caller is None:
        raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Bearer"})
    return caller


@app.get("/posts")
def read() -> dict[str, Any]:
    """All posts, oldest first: everybody may read."""
    return {"items": list(posts)}


@app.post("/posts", status_code=201)
async def write(new: NewPost, caller: Annotated[Caller, Depends(signed_in)]) -> dict[str, Any]:
    """Post, and publish the post to everybody who is looking."""
    post = {"id": secrets.token_hex(8), "by": caller.name, "text": new.text}
    posts.append(post)
    try:
        # With the post's id as the key, it is published once, however often this is retried.
        await usher.publish(ROOM, "posted", post, idempotency_key=post["id"])
    except UsherError as error:
        # It is posted all the same: who is looking sees it when they load the page again.
        print(f"not published: {error.code}", flush=True)
    return post
