"""An identity provider as hospitals have them: it lets everybody in by what a file says.

oidc_provider.py PORT STATE

STATE is a JSON file that is read for each request:
    claims, userinfo   what the ID token and the UserInfo endpoint say
    auth               list of how it takes the secret: basic, post
    secret
    alg                that signs: RS256, PS256, ES256, HS256
    key                a number: another one is another key
    kid                whether the token names its key
"""

import base64
import json
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer

from joserfc import jwt
from joserfc.jwk import ECKey
from joserfc.jwk import OctKey
from joserfc.jwk import RSAKey

port, state_file = int(sys.argv[1]), sys.argv[2]
base = f"http://127.0.0.1:{port}"
issuer = base + "/realms/main"
keys = {}
nonces = {}
# Of kinds that clients do not sign by: one to encrypt for, one that is newer than most.
FOREIGN = [
    {"kty": "OKP", "crv": "X25519", "use": "enc", "kid": "x", "x": "L7b4rQZc0jMHzCjV3gvPJkQb1r2bAqf8Yt5wE3sN0kM"},
    {"kty": "AKP", "alg": "ML-DSA-65", "use": "sig", "kid": "pq", "pub": "AAAA"},
]


def state():
    with open(state_file) as file:
        return json.load(file)


def key(now):
    name = f"{now['alg'][:2]}{now['key']}"
    if name not in keys:
        make = {"ES": lambda: ECKey.generate_key("P-256"), "HS": lambda: OctKey.import_key(now["secret"])}
        keys[name] = make.get(now["alg"][:2], lambda: RSAKey.generate_key(2048))()
    return name, keys[name]


def published(now):
    # The keys of before stay for a while, as providers do.
    key(now)
    own = [
        {**made.as_dict(private=False), "kid": name, "use": "sig"}
        for name, made in keys.items()
        if not name.startswith("HS") and int(name[2:]) >= now["key"] - 1
    ]
    return {"keys": FOREIGN + own}


class Provider(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body, **headers):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        now, url = state(), urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path.endswith("/.well-known/openid-configuration"):
            self.answer(200, {
                "issuer": issuer,
                "authorization_endpoint": base + "/auth",
                "token_endpoint": base + "/token",
                "userinfo_endpoint": base + "/userinfo",
                "jwks_uri": base + "/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_" + one for one in now["auth"]],
            })
        elif url.path == "/keys":
            self.answer(200, published(now))
        elif url.path == "/auth":
            nonces["code"] = query["nonce"]
            back = {"code": "code", "state": query["state"]}
            if "error" in now:
                back = {"error": now["error"], "error_description": "as it was set", "state": query["state"]}
            self.answer(302, {}, Location=query["redirect_uri"] + "?" + urllib.parse.urlencode(back))
        elif url.path == "/userinfo" and self.headers.get("Authorization") == "Bearer a1":
            self.answer(200, now["userinfo"])
        else:
            self.answer(404, {})

    def do_POST(self):
        now = state()
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = dict(urllib.parse.parse_qsl(form))
        how, given = "post", form.get("client_secret")
        basic = self.headers.get("Authorization", "")
        if basic.startswith("Basic "):
            name, given = base64.b64decode(basic[6:]).decode().split(":", 1)
            assert urllib.parse.unquote_plus(name) == "prelim"
            how, given = "basic", urllib.parse.unquote_plus(given)
        if how not in now["auth"] or given != now["secret"]:
            self.answer(401, {"error": "invalid_client", "error_description": f"by {how}"})
            return
        name, made = key(now)
        head = {"alg": now["alg"], "typ": "JWT"} | ({"kid": name} if now["kid"] else {})
        second = int(time.time())
        claims = {"iss": issuer, "aud": "prelim", "iat": second, "exp": second + 300, "nonce": nonces["code"]}
        token = jwt.encode(head, claims | now["claims"], made, algorithms=[now["alg"]])
        self.answer(200, {"access_token": "a1", "token_type": "Bearer", "id_token": token})


ThreadingHTTPServer(("127.0.0.1", port), Provider).serve_forever()
