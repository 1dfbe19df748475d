"""Debian's LemonLDAP::NG, its portal with the demonstration accounts and its own pages."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.providers.real.form_browser import FormBrowser, Page
from tests.providers.real.provider import TOKEN_SECONDS, RealProvider
from tests.providers.real.servers import server_text

PACKAGES = (
    "liblemonldap-ng-portal-perl",
    # What it only recommends, and its portal does not start without.
    "libgd-securityimage-perl",
    "libimage-magick-perl",
    "libio-string-perl",
    "libstring-random-perl",
)
VERSION = "2.16.1"
"""Of Debian 12, with whatever security fixes it has there."""
MACHINES = ("x86_64", "aarch64")
PERSON = "dwho"
"""One of the accounts of its demonstration back end; the password is the same."""


class LemonLdap(RealProvider):
    title = "LemonLDAP::NG"
    package = f"Debian lemonldap-ng {VERSION}"
    client = "either; *Allow offline access*"
    settings: ClassVar = {"SCOPES": "openid,email,profile,offline_access"}
    email = "dwho@badwolf.org"
    no_backchannel = "has none: its setting sends nothing yet"

    def start(self) -> None:
        self.issuer = f"{self.origin}/"
        unpacked = self.place.debian(*PACKAGES)
        root = self.place.folder
        for name in ("conf", "sessions/lock", "psessions/lock", "captcha", "cache"):
            (root / name).mkdir(parents=True)
        ini = server_text("lemonldap.ini.in").replace("@ROOT@", str(root))
        self.place.write("lemonldap-ng.ini", ini.replace("@UNPACKED@", str(unpacked)))
        self.place.write("conf/lmConf-1.json", json.dumps(self._configuration()))
        libraries = [f"usr/lib/{machine}-linux-gnu/perl5/5.36" for machine in MACHINES]
        libraries.append("usr/share/perl5")
        environment = {
            "PERL5LIB": ":".join(str(unpacked / each) for each in libraries),
            "LD_LIBRARY_PATH": ":".join(
                str(unpacked / f"usr/lib/{machine}-linux-gnu") for machine in MACHINES
            ),
            "LLNG_DEFAULTCONFFILE": str(root / "lemonldap-ng.ini"),
        }
        portal = unpacked / "usr/share/lemonldap-ng/portal/htdocs/index.psgi"
        bind = ["-E", "deployment", "--host", "127.0.0.1", "--port", str(self.port)]
        self.place.start(
            ["perl", unpacked / "usr/bin/plackup", *bind, portal],
            f"{self.issuer}.well-known/openid-configuration",
            environment,
        )

    def sign_in(self, browser: FormBrowser, page: Page) -> Page:
        if form := page.form("user", "password"):
            page = browser.submit(page, form, {"user": PERSON, "password": PERSON})
        for _ in range(3):  # consent, and pages that a script would send on by itself
            if form := page.form("confirm"):
                page = browser.submit(page, form, {})
        return page

    def confirm_logout(self, browser: FormBrowser, page: Page) -> Page:
        form = page.form("confirm")
        return page if form is None else browser.submit(page, form, {})

    def _configuration(self) -> dict[str, Any]:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        root = str(self.place.folder)
        sessions = {"Directory": f"{root}/sessions", "LockDirectory": f"{root}/sessions/lock"}
        return {
            "locationRules": {"127.0.0.1": {"default": "accept"}},
            "macros": {"_whatToTrace": "lc($_user)"},
            "exportedHeaders": {"127.0.0.1": {}},
            "cfgNum": 1, "cfgAuthor": "tests", "cfgDate": 1, "cfgVersion": VERSION,
            "portal": self.issuer, "domain": "127.0.0.1", "cookieName": "lemonldap",
            "securedCookie": 0, "key": "a key of the tests", "whatToTrace": "_whatToTrace",
            "authentication": "Demo", "userDB": "Same", "passwordDB": "Null",
            "registerDB": "Null", "globalStorage": "Apache::Session::File",
            "globalStorageOptions": sessions,
            "persistentStorage": "Apache::Session::File",
            "persistentStorageOptions": {
                "Directory": f"{root}/psessions", "LockDirectory": f"{root}/psessions/lock",
            },
            "demoExportedVars": {"cn": "cn", "mail": "mail", "uid": "uid"},
            "requireToken": 0, "portalDisplayRegister": 0, "portalSkin": "bootstrap",
            "issuerDBOpenIDConnectActivation": 1, "issuerDBOpenIDConnectRule": "1",
            "oidcServiceMetaDataIssuer": self.issuer,
            "oidcServicePrivateKeySig": private.decode(),
            "oidcServicePublicKeySig": public.decode(), "oidcServiceKeyIdSig": "one",
            "oidcServiceAllowAuthorizationCodeFlow": 1,
            "oidcRPMetaDataExportedVars": {"usher": {"email": "mail", "name": "cn"}},
            "oidcRPMetaDataOptions": {
                "usher": {
                    "oidcRPMetaDataOptionsClientID": self.client_id,
                    "oidcRPMetaDataOptionsClientSecret": self.client_secret,
                    "oidcRPMetaDataOptionsRedirectUris": self.redirect_uri,
                    "oidcRPMetaDataOptionsPostLogoutRedirectUris": self.after_logout,
                    "oidcRPMetaDataOptionsIDTokenSignAlg": "RS256",
                    "oidcRPMetaDataOptionsAccessTokenExpiration": TOKEN_SECONDS,
                    "oidcRPMetaDataOptionsAllowOffline": 1,
                    "oidcRPMetaDataOptionsRefreshToken": 1,
                },
            },
        }  # fmt: skip
