"""What a browser carries from other sites does not reach the servers; what proxies say of a request is taken over."""

import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_node.web.origins import Origins


@pytest.mark.parametrize(
    ("host", "known"),
    [
        (None, True),
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("localhost.:8000", True),
        ("app.localhost", True),
        ("127.0.0.1:8000", True),
        ("192.168.1.20", True),
        ("[::1]:8000", True),
        (socket.gethostname(), True),
        ("robot", True),
        ("Robot:80", True),
        ("", False),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("notlocalhost", False),
        ("127.0.0.1.evil.example", False),
        ("localhost@evil.example", False),
        ("evil.example#localhost", False),
        ("[::1", False),
        ("[evil]", False),
    ],
)
def test_names_of_the_server(host, known):
    why = Origins(["robot"]).foreign_host(host)
    assert (why is None) == known
    assert known or "--allowed-host" in why
    assert Origins(["*"]).foreign_host(host) is None


SAME = "localhost:8000"


@pytest.mark.parametrize(
    ("method", "origin", "site", "accepted"),
    [
        ("POST", None, None, True),
        ("POST", "http://localhost:8000", "same-origin", True),
        ("POST", "HTTP://LOCALHOST:8000", None, True),
        ("POST", None, "none", True),
        ("POST", "https://trusted.example", "cross-site", True),
        ("GET", "http://evil.example", "cross-site", True),
        ("POST", "http://evil.example", "cross-site", False),
        ("POST", "http://evil.example", None, False),
        ("POST", "http://localhost:9000", "same-site", False),
        ("POST", "http://localhost", None, False),
        ("POST", "null", None, False),
        ("POST", "", None, False),
        ("POST", None, "cross-site", False),
        ("POST", None, "same-site", False),
        ("DELETE", "http://evil.example", None, False),
        ("PUT", "http://[", None, False),
    ],
)
def test_pages_of_other_sites(method, origin, site, accepted):
    origins = Origins(trusted=["https://trusted.example/"])
    assert (origins.foreign_page(method, SAME, origin, site) is None) == accepted


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_answered(host, origin):
    origins = Origins()
    assert origins.foreign_host(host) is None or "not known" in origins.foreign_host(host)
    assert origins.foreign_page("POST", host, origin, None) is None or "another site" in origins.foreign_page(
        "POST", host, origin, None
    )


def test_the_api_refuses_what_other_sites_send(jpeg):
    pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
    from helpers.serving import in_process, post, problem

    async def requests(client):
        kind = {"Content-Type": "image/jpeg"}

        async def send(**headers):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.post("/v1/segment", content=jpeg, headers=kind | named)

        return (
            await client.get("/v1/models", headers={"Host": "evil.example"}),
            await send(Origin="http://evil.example"),
            await send(Sec_Fetch_Site="cross-site"),
            await client.delete("/v1/videos/x", headers={"Origin": "http://evil.example"}),
            await send(Origin="http://localhost", Sec_Fetch_Site="same-origin"),
            await post(client, jpeg),
            await client.get("/healthz"),
        )

    rebound, page, fetch, deleted, own, program, health = in_process(requests)
    assert (rebound.status_code, problem(rebound)) == (421, "foreign_host")
    for answer in (page, fetch, deleted):
        assert (answer.status_code, problem(answer)) == (403, "foreign_page")
    assert (own.status_code, program.status_code) == (200, 200)
    for answer in (rebound, page, own, health):
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
    assert own.headers["cache-control"] == "no-store" and "cache-control" not in health.headers


def test_trusted_pages_may_use_the_api(jpeg):
    pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
    from helpers.serving import in_process, problem

    trusted, other = "https://app.example", "https://evil.example"

    async def requests(client):
        preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        return [
            (
                await client.options("/v1/segment", headers={"Origin": origin} | preflight),
                await client.post(
                    "/v1/segment", content=jpeg, headers={"Origin": origin, "Content-Type": "image/jpeg"}
                ),
            )
            for origin in (trusted, other)
        ]

    (asked, answered), (asked_too, refused) = in_process(requests, app_options={"trusted_origins": [trusted]})
    assert asked.status_code == answered.status_code == 200
    assert answered.headers["access-control-allow-origin"] == trusted
    assert "X-Model" in answered.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in asked_too.headers
    assert (refused.status_code, problem(refused)) == (403, "foreign_page")


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"X-Request-Id": "from-a-proxy_17"}, "from-a-proxy_17"),
        ({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}, "ab" * 16),
        ({"X-Request-Id": "from-a-proxy", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}, "from-a-proxy"),
        ({"X-Request-Id": "short"}, None),
        ({"X-Request-Id": "x" * 65}, None),
        ({"X-Request-Id": "with a space"}, None),
        ({"X-Request-Id": "../../etc/passwd"}, None),
        ({"traceparent": f"00-{'0' * 32}-{'cd' * 8}-01"}, None),
        ({"traceparent": f"00-{'ab' * 16}-{'0' * 16}-01"}, None),
        ({"traceparent": f"00-{'AB' * 16}-{'cd' * 8}-01"}, None),
    ],
)
def test_ids_of_proxies_are_taken_over(headers, taken):
    pytest.importorskip("fastapi", reason="fastapi is missing: pip install -e '.[serving]'")
    from helpers.serving import in_process, problem

    async def requests(client):
        return await client.get("/nothing", headers=headers)

    answer = in_process(requests)
    problem(answer)
    found = answer.headers["x-request-id"]
    assert found == taken if taken else re.fullmatch("[0-9a-f]{16}", found)
