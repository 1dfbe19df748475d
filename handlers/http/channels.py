"""Channels and their members."""

from __future__ import annotations

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from services.claims import Role
from services.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    OwnerStays,
    RateLimited,
    StepUpNeeded,
    TooManyChannels,
)
from services.grants.rules import BACKEND, Right, RightName
from services.rooms.channel_rows import ChannelDetails, ChannelItem, Membership
from services.rooms.channels import MAX_NAME_LENGTH, MAX_PAGE


class ChannelPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`next`: give it as `after` for the next page; absent on the last one."""

    items: list[ChannelItem]
    next: str | None = None


class NewChannel(msgspec.Struct):
    """`name`: 1 to 80 characters. A channel that is not private, every user may write to.
    `step_up`: its room is entered only with a fresh proof of who the user is."""

    name: str
    private: bool = True
    step_up: bool = False


class ChangeChannel(msgspec.Struct):
    """What is left out stays as it is. `roles`: all of them; a role left out loses its right.
    `step_up`: to change it needs a step-up itself."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    private: bool | msgspec.UnsetType = msgspec.UNSET
    roles: dict[Role, RightName] | msgspec.UnsetType = msgspec.UNSET
    step_up: bool | msgspec.UnsetType = msgspec.UNSET


class GiveRight(msgspec.Struct):
    """`right`: each holds those before it."""

    right: RightName = "write"


class InviteMember(msgspec.Struct):
    """`email`: of an account. `right`: each holds those before it."""

    email: str
    right: RightName = "write"


class ForChannels(ApiHandler):
    """Called by users, and by backends that manage all channels."""

    def caller_id(self) -> str:
        """The id of the user, or BACKEND, whose rights apply."""
        return BACKEND if self.key is not None else self.identity.user_id

    async def count_opening(self) -> None:
        """Count a change that concerns the sockets of many users. Administrators and backends have
        no limit.

        Raises:
            RateLimited: the user has made as many in this hour as one may.
        """
        if self.key is None and not self.identity.is_admin:
            limits = self.services.limits
            (await limits.take((limits.of.openings, self.identity.user_id))).require()


class ChannelsHandler(ForChannels):
    @operation(
        "Channels that the user may read, newest first, a page at a time.",
        access="channels",
        answer=ChannelPage,
        query={
            "after": "`next` of the page before",
            "limit": "1 to 100, usually 50",
            "q": "only channels with this in their name",
        },
    )
    async def get(self) -> ChannelPage:
        limit, after = self.page_limit(50, MAX_PAGE), self.get_query_argument("after", "")
        words = self.get_query_argument("q", "").strip()
        if len(words) > MAX_NAME_LENGTH or not words.isprintable():
            raise BadRequest("q", detail=f"q: up to {MAX_NAME_LENGTH} printable characters")
        items, following = await self.services.channels.page(self.caller_id(), after, limit, words)
        return ChannelPage(items, following)

    @operation(
        "Open a channel. Its owner is the user, or who made the API key.",
        access="channels",
        body=NewChannel,
        status=201,
        answer=ChannelItem,
        errors=(TooManyChannels, RateLimited),
        audit="channel.created",
    )
    async def post(self, body: NewChannel) -> ChannelItem:
        owner_id = self.key.maker if self.key is not None else self.identity.user_id
        if not body.private:
            await self.count_opening()
        return await self.services.channels.create(owner_id, body.name, body.private, body.step_up)


class ChannelHandler(ForChannels):
    @operation(
        "One channel; for who manages it, with its members and roles.",
        access="channels",
        answer=ChannelDetails,
        errors=(NotFound,),
        query={"members_after": "`members_next` of the answer before"},
    )
    async def get(self, channel_id: str) -> ChannelDetails:
        after = self.get_query_argument("members_after", "")
        return await self.services.channels.get(self.caller_id(), channel_id, after)

    @operation(
        "Rename a channel, open or close it to everybody, say which roles may enter, or whether "
        "its room needs a step-up.",
        access="channels",
        body=ChangeChannel,
        answer=ChannelDetails,
        errors=(NotFound, Forbidden, StepUpNeeded, TooManyChannels, RateLimited),
        audit="channel.changed",
    )
    async def patch(self, channel_id: str, body: ChangeChannel) -> ChannelDetails:
        asked = msgspec.structs.asdict(body)
        changes = {name: new for name, new in asked.items() if new is not msgspec.UNSET}
        if not changes:
            raise BadRequest("nothing to change", detail="nothing to change is named")
        if body.step_up is not msgspec.UNSET:
            await self.require_step_up()
        if body.private is False or body.roles or body.step_up is not msgspec.UNSET:
            await self.count_opening()
        user_id = self.caller_id()
        return await self.services.channels.update(user_id, channel_id, **changes)

    @operation(
        "Delete a channel.",
        access="channels",
        status=204,
        errors=(NotFound, Forbidden),
        audit="channel.deleted",
    )
    async def delete(self, channel_id: str) -> None:
        await self.services.channels.delete(self.caller_id(), channel_id)


class MembersHandler(ForChannels):
    @operation(
        "Add the user with an e-mail address to a channel; 20 an hour for each user.",
        body=InviteMember,
        answer=Membership,
        errors=(NotFound, Forbidden, OwnerStays, TooManyChannels, RateLimited),
        audit="member.set",
    )
    async def post(self, channel_id: str, body: InviteMember) -> Membership:
        channels, limits, caller_id = (
            self.services.channels,
            self.services.limits,
            self.identity.user_id,
        )
        await channels.require_manager(caller_id, channel_id)
        (await limits.take((limits.of.invited, caller_id))).require()
        found = await self.services.administration.with_address(body.email)
        if not found:
            raise NotFound("no account has this address")
        return await channels.put_member(caller_id, channel_id, found[0].id, Right.of(body.right))


class MemberHandler(ForChannels):
    @operation(
        "Add a user to a channel, or change a member's right.",
        access="channels",
        body=GiveRight,
        answer=Membership,
        errors=(NotFound, Forbidden, OwnerStays, TooManyChannels),
        audit="member.set",
    )
    async def put(self, channel_id: str, user_id: str, body: GiveRight) -> Membership:
        caller_id, right = self.caller_id(), Right.of(body.right)
        return await self.services.channels.put_member(caller_id, channel_id, user_id, right)

    @operation(
        "Remove a member from a channel. Members may remove themselves.",
        access="channels",
        status=204,
        errors=(NotFound, Forbidden, OwnerStays),
        audit="member.removed",
    )
    async def delete(self, channel_id: str, user_id: str) -> None:
        caller_id = self.caller_id()
        await self.services.channels.remove_member(caller_id, channel_id, user_id)
